package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// kubeconform is the program of that name, with schemas on this machine.
type kubeconform struct{ program, schemas string }

// kubeconformKinds are those of the mix.
var kubeconformKinds = []string{"Namespace", "ConfigMap", "ReplicationController", "Service", "Pod"}

// newKubeconform finds the program and writes its schemas below dir: those
// that it would load are on a web site. They are made of what Kubernetes
// publishes in its own module, strict as kubeconform's.
func newKubeconform(ctx context.Context, dir string) (*kubeconform, error) {
	program, err := exec.LookPath("kubeconform")
	if err != nil {
		return nil, fmt.Errorf("%w; go install github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0", err)
	}
	module, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		return nil, fmt.Errorf("find k8s.io/kubernetes: %w", err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(module)), "api/openapi-spec/v3/api__v1_openapi.json"))
	if err != nil {
		return nil, err
	}
	return &kubeconform{program, dir}, writeSchemas(data, dir)
}

// run returns how many seconds it took; an invalid manifest is an error.
func (k *kubeconform) run(ctx context.Context, files string) (float64, error) {
	began := time.Now()
	out, err := exec.CommandContext(ctx, k.program, "-strict", "-n", strconv.Itoa(runtime.NumCPU()),
		"-schema-location", filepath.Join(k.schemas, "{{.ResourceKind}}{{.KindSuffix}}.json"), files).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("kubeconform: %w: %.1000s", err, out)
	}
	return seconds(began), nil
}

// writeSchemas makes a schema of each kind, with all that it refers to.
func writeSchemas(openAPI []byte, dir string) error {
	var spec struct {
		Components struct {
			Schemas map[string]map[string]any `json:"schemas"`
		} `json:"components"`
	}
	text := strings.ReplaceAll(string(openAPI), "#/components/schemas/", "#/definitions/")
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return fmt.Errorf("read the OpenAPI of Kubernetes: %w", err)
	}
	for _, s := range spec.Components.Schemas {
		if s["properties"] != nil && s["additionalProperties"] == nil {
			s["additionalProperties"] = false
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, kind := range kubeconformKinds {
		name := "io.k8s.api.core.v1." + kind
		if spec.Components.Schemas[name] == nil {
			return errors.New("the OpenAPI of Kubernetes has no " + name)
		}
		used := map[string]any{}
		collect(name, spec.Components.Schemas, used)
		schema := maps.Clone(spec.Components.Schemas[name])
		schema["definitions"] = used
		data, err := json.Marshal(schema)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, strings.ToLower(kind)+"-v1.json"), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// collect adds a definition and those it refers to.
func collect(name string, all map[string]map[string]any, into map[string]any) {
	if into[name] != nil {
		return
	}
	into[name] = all[name]
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				collect(strings.TrimPrefix(ref, "#/definitions/"), all, into)
			}
			for _, below := range v {
				walk(below)
			}
		case []any:
			for _, below := range v {
				walk(below)
			}
		}
	}
	walk(all[name])
}
