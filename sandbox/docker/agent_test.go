package docker

import (
	_ "embed"
	"io"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

//go:embed testdata/agent.py
var agentTests string

// TestAgentParts runs the agent's own tests, in the image that it ships in.
func TestAgentParts(t *testing.T) {
	t.Parallel()
	p := newBench(t, testConfig(t, runtimeRunc)).attached(t)
	created, err := p.engine.ContainerCreate(t.Context(), &container.Config{
		Image:      p.config.Image,
		Labels:     p.labels("agent"),
		Entrypoint: []string{"python3", "-c", agentTests},
	}, &container.HostConfig{Runtime: runtimeRunc, NetworkMode: "none"}, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	output, err := p.engine.ContainerAttach(t.Context(), created.ID, container.AttachOptions{
		Stream: true, Stdout: true, Stderr: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	if err := p.engine.ContainerStart(t.Context(), created.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stdcopy.StdCopy(t.Output(), t.Output(), output.Reader); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	ended, failed := p.engine.ContainerWait(t.Context(), created.ID, container.WaitConditionNotRunning)
	select {
	case status := <-ended:
		if status.StatusCode != 0 {
			t.Errorf("the agent's tests failed with status %d", status.StatusCode)
		}
	case err := <-failed:
		t.Fatal(err)
	}
}
