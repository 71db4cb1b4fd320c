package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	planObjects = 10000 // how many manifests are planned
	teamSize    = 200   // of which a team has so many
)

// manifest is one file of the mix.
type manifest struct{ path, text string }

// mixOf is the manifest of a number: teams with a namespace each, and in it
// applications of a config map, a controller, a service and a pod, of about
// 1 KB each. Together they are valid and leave nothing to warn of. version is
// what a later commit changes.
func mixOf(i, version int) manifest {
	team := fmt.Sprintf("team-%02d", i/teamSize)
	app := i % teamSize / 4
	kind := []string{"settings", "controller", "service", "pod"}[i%4]
	m := manifest{path: fmt.Sprintf("%s/app-%02d-%s.yaml", team, app, kind)}
	switch {
	case i%teamSize == 0:
		m.path = team + "/namespace.yaml"
		m.text = fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n", team)
	case kind == "settings":
		m.text = settings(team, app, version)
	case kind == "controller":
		m.text = controller(team, app)
	case kind == "service":
		m.text = service(team, app)
	default:
		m.text = pod(team, app)
	}
	return m
}

func (m manifest) write(dir string) error {
	path := filepath.Join(dir, m.path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(m.text), 0o644)
}

// writeMix writes the first n manifests below a directory, a file each.
func writeMix(dir string, n int) error {
	for i := range n {
		if err := mixOf(i, 0).write(dir); err != nil {
			return err
		}
	}
	return nil
}

func header(kind, name, team string, app int) string {
	return fmt.Sprintf("apiVersion: v1\nkind: %s\nmetadata:\n  name: %s\n  namespace: %s\n  labels:\n    app: app-%02d\n    team: %s\n    tier: backend\n",
		kind, name, team, app, team)
}

func settings(team string, app, version int) string {
	var b strings.Builder
	b.WriteString(header("ConfigMap", fmt.Sprintf("settings-%02d", app), team, app))
	fmt.Fprintf(&b, "data:\n  version: \"%d\"\n", version)
	for n := range 8 {
		fmt.Fprintf(&b, "  setting-%d: value number %d of %s\n", n, n, team)
	}
	b.WriteString("  server.conf: |\n    # what the server reads when it starts\n")
	for n := range 11 {
		fmt.Fprintf(&b, "    upstream_%d = http://app-%02d.%s.svc:%d\n", n, (app+n)%50, team, 8000+n)
	}
	return b.String()
}

func controller(team string, app int) string {
	return header("ReplicationController", fmt.Sprintf("app-%02d", app), team, app) + fmt.Sprintf(`spec:
  replicas: %d
  selector:
    app: app-%02d
  template:
    metadata:
      labels:
        app: app-%02d
        team: %s
    spec:
`, 1+app%3, app, app, team) + indented(podSpec(team, app), "    ")
}

func service(team string, app int) string {
	var b strings.Builder
	b.WriteString(header("Service", fmt.Sprintf("app-%02d", app), team, app))
	b.WriteString("  annotations:\n")
	for n := range 8 {
		fmt.Fprintf(&b, "    example.org/note-%d: \"what %s says of its service, line %d\"\n", n, team, n)
	}
	fmt.Fprintf(&b, "spec:\n  type: ClusterIP\n  selector:\n    app: app-%02d\n  ports:\n", app)
	for n, port := range []int{80, 8080, 9000} {
		fmt.Fprintf(&b, "    - name: port-%d\n      protocol: TCP\n      port: %d\n      targetPort: http\n", n, port)
	}
	return b.String()
}

func pod(team string, app int) string {
	return header("Pod", fmt.Sprintf("tool-%02d", app), team, app) + "spec:\n" + podSpec(team, app)
}

func podSpec(team string, app int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  containers:\n    - name: main\n      image: registry.example/%s/app:%d\n", team, app%7)
	b.WriteString("      args: [\"--port=8080\", \"--verbose\"]\n      ports:\n        - name: http\n          containerPort: 8080\n      env:\n")
	for n := range 5 {
		fmt.Fprintf(&b, "        - name: SETTING_%d\n          value: \"value number %d of app %d\"\n", n, n, app)
	}
	fmt.Fprintf(&b, "        - name: VERSION\n          valueFrom:\n            configMapKeyRef:\n              name: settings-%02d\n              key: version\n", max(app, 1))
	b.WriteString("      resources:\n        requests:\n          cpu: 100m\n          memory: 64Mi\n        limits:\n          memory: 128Mi\n")
	b.WriteString("      readinessProbe:\n        httpGet:\n          path: /healthz\n          port: http\n")
	return b.String()
}

func indented(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+by) + "\n"
}
