package deploy

import (
	"maps"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// kinds decode what the chart renders; a field that a type does not have is an error.
var kinds = map[string]func() any{
	"apps/v1 Deployment":                      func() any { return &apps.Deployment{} },
	"apps/v1 DaemonSet":                       func() any { return &apps.DaemonSet{} },
	"v1 ConfigMap":                            func() any { return &core.ConfigMap{} },
	"v1 PersistentVolumeClaim":                func() any { return &core.PersistentVolumeClaim{} },
	"v1 Service":                              func() any { return &core.Service{} },
	"v1 ServiceAccount":                       func() any { return &core.ServiceAccount{} },
	"policy/v1 PodDisruptionBudget":           func() any { return &policy.PodDisruptionBudget{} },
	"networking.k8s.io/v1 NetworkPolicy":      func() any { return &networking.NetworkPolicy{} },
	"monitoring.coreos.com/v1 ServiceMonitor": func() any { return &monitoring.ServiceMonitor{} },
	"monitoring.coreos.com/v1 PrometheusRule": func() any { return &monitoring.PrometheusRule{} },
}

// TestChartDecodes decodes all that every installation renders, strictly. Between
// them the installations render each kind.
func TestChartDecodes(t *testing.T) {
	rendered := map[string]bool{}
	for name, values := range valuesFiles(t) {
		t.Run(name, func(t *testing.T) {
			for _, o := range mustRender(t, values) {
				rendered[o.kind] = true
				decode(t, o)
			}
		})
	}

	for kind := range kinds {
		if !rendered[kind] {
			t.Errorf("no installation renders %s", kind)
		}
	}
}

func decode(t *testing.T, o object) any {
	t.Helper()
	of, known := kinds[o.kind]
	if !known {
		t.Fatalf("%s %s: no such kind is known", o.kind, o.name)
	}

	into := of()
	if err := yaml.UnmarshalStrict([]byte(o.text), into); err != nil {
		t.Fatalf("%s %s: %v\n%s", o.kind, o.name, err, o.text)
	}
	return into
}

// podOf returns the pod of an installation, and the selector that has to find it.
func podOf(t *testing.T, found []object) (pod core.PodTemplateSpec, selector map[string]string) {
	t.Helper()
	for _, o := range found {
		switch w := decode(t, o).(type) {
		case *apps.Deployment:
			return w.Spec.Template, w.Spec.Selector.MatchLabels
		case *apps.DaemonSet:
			return w.Spec.Template, w.Spec.Selector.MatchLabels
		}
	}
	t.Fatal("no workload")
	return pod, nil
}

// TestChartSelectors: everything that selects the gate's pods finds them.
func TestChartSelectors(t *testing.T) {
	for name, values := range valuesFiles(t) {
		t.Run(name, func(t *testing.T) {
			found := mustRender(t, values)
			pod, selector := podOf(t, found)
			selectors := []map[string]string{selector}
			services := 0
			for _, o := range found {
				switch s := decode(t, o).(type) {
				case *core.Service:
					services++
					selectors = append(selectors, s.Spec.Selector)
					checkPorts(t, s, pod.Spec)
				case *policy.PodDisruptionBudget:
					selectors = append(selectors, s.Spec.Selector.MatchLabels)
				case *networking.NetworkPolicy:
					selectors = append(selectors, s.Spec.PodSelector.MatchLabels)
				}
			}

			for _, s := range selectors {
				for key, value := range s {
					if pod.Labels[key] != value || len(s) == 0 {
						t.Errorf("%v does not select a pod with %v", s, pod.Labels)
					}
				}
			}
			if services == 0 {
				t.Error("no service")
			}
		})
	}
}

func checkPorts(t *testing.T, s *core.Service, pod core.PodSpec) {
	t.Helper()
	for _, p := range s.Spec.Ports {
		if !slices.ContainsFunc(pod.Containers[0].Ports, func(c core.ContainerPort) bool {
			return c.Name == p.TargetPort.StrVal
		}) {
			t.Errorf("service %s leads to the port %q, which the pod does not have", s.Name, p.TargetPort.StrVal)
		}
	}
}

// TestChartPodIsConfined: no value takes the pod's confinement away. Only the
// container that writes containerd's files is root, without any capability.
func TestChartPodIsConfined(t *testing.T) {
	for name, values := range valuesFiles(t) {
		t.Run(name, func(t *testing.T) {
			pod, _ := podOf(t, mustRender(t, values))
			s := pod.Spec.SecurityContext
			switch {
			case s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || *s.RunAsUser != 65532:
				t.Error("the pod may run as root")
			case s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault:
				t.Error("no seccomp profile")
			case pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken:
				t.Error("the pod gets a token of the cluster's API")
			case pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks:
				t.Error("services become variables, which look like settings")
			case pod.Spec.HostPID || pod.Spec.HostIPC:
				t.Error("the pod sees the node's processes")
			}

			for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
				checkContainer(t, c)
			}
		})
	}
}

func checkContainer(t *testing.T, c core.Container) {
	t.Helper()
	s := c.SecurityContext
	switch {
	case s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem:
		t.Errorf("%s: the root file system may be written", c.Name)
	case s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation:
		t.Errorf("%s may gain privileges", c.Name)
	case s.Capabilities == nil || !slices.Contains(s.Capabilities.Drop, "ALL") || len(s.Capabilities.Add) > 0:
		t.Errorf("%s has capabilities", c.Name)
	case s.Privileged != nil && *s.Privileged:
		t.Errorf("%s is privileged", c.Name)
	case s.RunAsNonRoot != nil && !*s.RunAsNonRoot && c.Name != "hold":
		t.Errorf("%s may run as root", c.Name)
	case len(c.Resources.Requests) == 0:
		t.Errorf("%s requests nothing", c.Name)
	case strings.HasSuffix(c.Image, ":latest") || strings.HasSuffix(c.Image, ":"):
		t.Errorf("%s runs %s, which may be another program tomorrow", c.Name, c.Image)
	}
}

// TestChartVolumes: what is mounted is there, and what is there is mounted. The
// only folder that may be written is the state, besides containerd's.
func TestChartVolumes(t *testing.T) {
	for name, values := range valuesFiles(t) {
		t.Run(name, func(t *testing.T) {
			pod, _ := podOf(t, mustRender(t, values))
			mounted := map[string]bool{}
			for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
				for _, m := range c.VolumeMounts {
					mounted[m.Name] = true
					if !m.ReadOnly && m.Name != "state" && m.Name != "certs-d" {
						t.Errorf("%s may write %s", c.Name, m.MountPath)
					}
					if m.SubPath != "" {
						t.Errorf("%s: a subPath never changes, and the gate would not load what is new", m.MountPath)
					}
				}
			}

			for _, v := range pod.Spec.Volumes {
				if !mounted[v.Name] {
					t.Errorf("%s is mounted nowhere", v.Name)
				}
				delete(mounted, v.Name)
				if v.HostPath != nil {
					checkHostPath(t, v)
				}
			}
			if len(mounted) > 0 {
				t.Errorf("no such volumes: %v", slices.Collect(maps.Keys(mounted)))
			}
		})
	}
}

// checkHostPath: the state's folder is not made by the kubelet, which would make it
// root's; containerd's may be.
func checkHostPath(t *testing.T, v core.Volume) {
	t.Helper()
	want, ours := map[string]core.HostPathType{
		"state":   core.HostPathDirectory,
		"certs-d": core.HostPathDirectoryOrCreate,
	}[v.Name]
	if !ours || v.HostPath.Type == nil || *v.HostPath.Type != want {
		t.Errorf("%s is a folder of the node: %v", v.Name, v.HostPath)
	}
}

// TestChartShapes: what each kind of installation must have, and must not.
func TestChartShapes(t *testing.T) {
	files := valuesFiles(t)

	t.Run("replicas have a state each", func(t *testing.T) {
		pod, _ := podOf(t, mustRender(t, files["central-postgresql"]))
		for _, v := range pod.Spec.Volumes {
			if v.PersistentVolumeClaim != nil || v.HostPath != nil {
				t.Errorf("%s is shared by replicas", v.Name)
			}
		}
	})

	t.Run("a claim belongs to one pod at a time", func(t *testing.T) {
		d := decode(t, only(t, mustRender(t, files["one-replica"]), "apps/v1 Deployment")).(*apps.Deployment)
		if d.Spec.Strategy.Type != apps.RecreateDeploymentStrategyType {
			t.Errorf("strategy %s: the new pod would wait for the old one's state for ever", d.Spec.Strategy.Type)
		}
	})

	t.Run("a node's gate needs nothing of the cluster", func(t *testing.T) {
		pod, _ := podOf(t, mustRender(t, files["node-local"]))
		anything := core.Toleration{Operator: core.TolerationOpExists}
		switch s := pod.Spec; {
		case !s.HostNetwork || s.DNSPolicy != core.DNSDefault:
			t.Error("it needs the network plugin, or the cluster's DNS")
		case s.PriorityClassName != "system-node-critical":
			t.Error("it may be evicted for something else")
		case !slices.Equal(s.Tolerations, []core.Toleration{anything}):
			t.Error("a taint keeps it from the node")
		}
		for _, p := range []*core.Probe{pod.Spec.Containers[0].LivenessProbe, pod.Spec.Containers[0].ReadinessProbe} {
			if p.HTTPGet.Host != "127.0.0.1" {
				t.Errorf("a probe asks %q, where nothing listens", p.HTTPGet.Host)
			}
		}
	})

	t.Run("a change of the configuration restarts nothing", func(t *testing.T) {
		before, _ := podOf(t, mustRender(t, "config: {mode: enforce}"))
		after, _ := podOf(t, mustRender(t, "config: {mode: warn}"))
		if before.String() != after.String() {
			t.Error("the pod depends on the configuration's text")
		}
	})
}
