{{- /* The pod, which both kinds have in common. */ -}}
{{- define "pullgate.pod" -}}
{{- $daemonset := eq .Values.kind "daemonset" -}}
metadata:
  labels:
    {{- include "pullgate.selector" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: pullgate
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "pullgate.serviceAccount" . }}
  automountServiceAccountToken: false
  # Variables such as PULLGATE_PORT would look like settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $daemonset }}
  # The host's network needs neither the cluster's network plugin nor its DNS, which
  # may be pulled through this gate.
  hostNetwork: true
  dnsPolicy: Default
  priorityClassName: {{ .Values.priorityClassName | default "system-node-critical" }}
  tolerations:
    {{- toYaml (.Values.tolerations | default (list (dict "operator" "Exists"))) | nindent 4 }}
  {{- else }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.deployment.topologySpread }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "pullgate.selector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- end }}
  {{- with .Values.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with .Values.daemonset.hold }}
  {{- if .enabled }}
  initContainers:
    # Root owns containerd's folder. Every capability is dropped nevertheless: to
    # write as the owner takes none.
    - name: hold
      image: {{ include "pullgate.image" $ | quote }}
      imagePullPolicy: {{ $.Values.image.pullPolicy }}
      args:
        - node-config
        - containerd
        - --version={{ .containerd }}
        - --gate={{ include "pullgate.nodeURL" $ }}
        {{- range .registries }}
        - --upstream={{ . }}
        {{- end }}
        - --write=/host
      securityContext:
        runAsNonRoot: false
        runAsUser: 0
        runAsGroup: 0
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      resources:
        {{- toYaml $.Values.resources | nindent 8 }}
      volumeMounts:
        - {name: certs-d, mountPath: /host/etc/containerd/certs.d}
  {{- end }}
  {{- end }}
  containers:
    - name: pullgate
      image: {{ include "pullgate.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve, --config, /etc/pullgate/config/pullgate.yaml]
      env:
        - {name: TMPDIR, value: /var/lib/pullgate}
        {{- if and $daemonset (eq .Values.daemonset.admin "node") }}
        - name: HOST_IP
          valueFrom: {fieldRef: {fieldPath: status.hostIP}}
        - {name: PULLGATE_ADMIN_LISTEN, value: "$(HOST_IP):{{ .Values.ports.admin }}"}
        {{- end }}
        {{- with .Values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - {name: pulls, containerPort: {{ .Values.ports.pulls }}, protocol: TCP}
        - {name: admin, containerPort: {{ .Values.ports.admin }}, protocol: TCP}
      # Slow to give up: while pulls go on, a restart would only break them.
      livenessProbe:
        httpGet: {path: /healthz, port: admin{{ include "pullgate.probeHost" . }}}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: admin{{ include "pullgate.probeHost" . }}}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      startupProbe:
        httpGet: {path: /healthz, port: admin{{ include "pullgate.probeHost" . }}}
        periodSeconds: 1
        timeoutSeconds: 2
        failureThreshold: 60
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        {{- include "pullgate.mounts" . | nindent 8 }}
  volumes:
    {{- include "pullgate.volumes" . | nindent 4 }}
{{- end -}}
