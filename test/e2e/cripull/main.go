// Command cripull pulls and removes images through a runtime's CRI, as the
// kubelet does: the part of crictl that the end-to-end tests, and doctor, need.
//
//	cripull pull|rmi IMAGE
//
// The runtime is containerd's, at its usual socket. It exits 1 with what the
// runtime answered when that refused, within a minute.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const socket = "unix:///run/containerd/containerd.sock"

func main() {
	if len(os.Args) != 3 || os.Args[1] != "pull" && os.Args[1] != "rmi" {
		fmt.Fprintln(os.Stderr, "usage: cripull pull|rmi IMAGE")
		os.Exit(2)
	}
	if err := do(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "cripull:", err)
		os.Exit(1)
	}
}

func do(what, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("reach %s: %w", socket, err)
	}
	defer conn.Close()
	images, image := cri.NewImageServiceClient(conn), &cri.ImageSpec{Image: name}
	if what == "rmi" {
		if _, err := images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: image}); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		return nil
	}
	// The socket is there before the service behind it is.
	pulled, err := images.PullImage(ctx, &cri.PullImageRequest{Image: image}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("pull %s: %w", name, err)
	}
	_, err = fmt.Println("pulled", pulled.ImageRef)
	return err
}
