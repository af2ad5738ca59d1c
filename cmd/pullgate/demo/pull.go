package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxAnswer bounds, in bytes, what is read of an answer.
const maxAnswer = 1 << 20

// pullAll pulls each image and fails if one was not decided as it should be.
func (d *Demo) pullAll(ctx context.Context, gate string, images []Image) error {
	fmt.Fprintf(d.Out, "A registry with three images is up, and the gate before it at %s.\n", gate)
	fmt.Fprintf(d.Out, "Its policy: demo.example/** must be signed by the key made a moment ago.\n\n")

	wrong := false
	for _, image := range images {
		admitted, err := d.pull(ctx, gate, image)
		if err != nil {
			return fmt.Errorf("pull %s: %w", image.Name, err)
		}
		wrong = wrong || admitted != image.Signed
	}

	if wrong {
		return errors.New("the demo did not go as it should")
	}
	return nil
}

// pull asks for an image as a client would and prints the answer.
func (d *Demo) pull(ctx context.Context, gate string, image Image) (admitted bool, err error) {
	url := fmt.Sprintf("http://%s/v2/demo.example/%s/manifests/latest", gate, image.Name)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return false, err
	}

	fmt.Fprintf(d.Out, "pull %s/demo.example/%s:latest (%s)\n", gate, image.Name, image.what)
	if resp.StatusCode == http.StatusOK {
		fmt.Fprintf(d.Out, "  %s, %s\n\n", resp.Status, resp.Header.Get("Docker-Content-Digest"))
		return true, nil
	}

	var envelope struct {
		Errors []struct{ Code, Message string } `json:"errors"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil || len(envelope.Errors) == 0 {
		return false, fmt.Errorf("unexpected answer %s", resp.Status)
	}
	first := envelope.Errors[0]
	fmt.Fprintf(d.Out, "  %s\n  %s: %s\n\n", resp.Status, first.Code, strings.TrimSpace(first.Message))
	return false, nil
}
