package control

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/reconciler/report"
	"github.com/evenkeel/evenkeel/reconciler/status"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// canary is part of every secret value of these tests.
const canary = "canary7f3a"

func secret(fields string) string {
	return "apiVersion: v1\nkind: Secret\nmetadata: {name: token, namespace: default}\n" + fields
}

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// secrets are revisions of one secret, in every way in which one is right or
// wrong.
var secrets = map[string]string{
	"text":              secret("stringData: {one: " + canary + "-1, two: " + canary + "-1}\n"),
	"changed":           secret("stringData: {one: " + canary + "-2}\ndata: {three: " + encoded(canary+"-3") + "}\n"),
	"annotated":         secret("stringData: {one: "+canary+"-4}\n") + "---\n" + strings.Replace(secret("stringData: {one: x}\n"), "name: token", `name: other, annotations: {kubectl.kubernetes.io/last-applied-configuration: "`+canary+`"}`, 1),
	"immutable":         secret("immutable: true\nstringData: {one: " + canary + "-5}\n"),
	"immutable changed": secret("immutable: true\nstringData: {one: " + canary + "-6}\n"),
	"not base64":        secret("data: {one: " + canary + "}\n"),
	"a list":            secret("data: {one: [" + canary + "]}\n"),
	"a map":             secret("stringData: {one: {" + canary + ": " + canary + "}}\n"),
	"bad key":           secret("stringData: {\"a b\": " + canary + "}\n"),
	"typo":              secret("stringdata: {one: " + canary + "}\n"),
	"docker":            secret("type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: '{" + canary + "'}\n"),
	"bad syntax":        secret("stringData: {one: \"" + canary + "\n"),
	"bad quoting":       secret("stringData:\n  one: \"" + canary + "\" " + canary + "\n"),
	"twice":             secret("stringData: {one: " + canary + ", one: " + canary + "}\n"),
	"type changed":      secret("type: kubernetes.io/tls\nstringData: {one: " + canary + "}\n"),
}

// printed gathers all that the programs print.
type printed struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *printed) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(data)
}

// TestSecretsAreNeverPrinted applies secrets, changes them, and breaks them,
// and looks for their values in all that is printed: logs, plans and findings
// in every format, status, heads and exports.
func TestSecretsAreNeverPrinted(t *testing.T) {
	for name, text := range secrets {
		t.Run(name, func(t *testing.T) {
			out := &printed{}
			logger := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
			store := memory.New()
			regs := registry.New(store, registry.Config{Validator: validation.Rules{}})
			if _, err := regs.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}); err != nil {
				t.Fatal(err)
			}
			p := &place{t: t, dir: t.TempDir()}
			p.write("token.yaml", secrets["text"])
			if name == "immutable changed" {
				p.write("token.yaml", secrets["immutable"])
			}
			run(t, store, logger, Flags{}, p.dir, applied)
			p.write("token.yaml", text)
			before := live(t, store)
			if name != "text" { // which is in force
				head := run(t, store, logger, Flags{}, p.dir, func(h reconciler.Head) bool { return h.Result != "" })
				fmt.Fprintf(out, "%+v\n", head)
			}

			sources, err := (&Flags{}).Sources([]string{p.dir}, t.TempDir(), logger)
			if err != nil {
				t.Fatal(err)
			}
			snapshot, err := sources[0].Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			sets, findings := manifests.NewLoader().Load(t.Context(), snapshot)
			printAll(t, out, before, sets, findings)
			after := live(t, store)
			printState(t, out, store, after)
			for _, value := range []string{canary, encoded(canary)[:10], encoded(canary + "-1"), encoded(canary + "-3")} {
				if i := strings.Index(out.b.String(), value); i >= 0 {
					t.Errorf("a secret's value was printed: …%s…", out.b.String()[max(0, i-200):min(out.b.Len(), i+60)])
				}
			}
		})
	}
}

// live is what is in the store.
func live(t *testing.T, store registry.Store) *reconciler.Base {
	t.Helper()
	base, err := reconciler.LiveBase(mirrorOf(t, store))
	if err != nil {
		t.Fatal(err)
	}
	return base
}

func mirrorOf(t *testing.T, store registry.Store) *registry.Mirror {
	t.Helper()
	mirror := registry.NewMirror(registry.MirrorConfig{Store: store})
	var wg sync.WaitGroup
	ctx := t.Context()
	wg.Go(func() { _ = mirror.Run(ctx) })
	t.Cleanup(wg.Wait)
	<-mirror.Synced()
	return mirror
}

// printAll prints findings and plan in every format.
func printAll(t *testing.T, out *printed, base *reconciler.Base, sets []*manifests.Set, findings manifests.Diagnostics) {
	t.Helper()
	r := report.Report{Findings: findings}
	if !findings.HasErrors() {
		var err error
		if r.Plan, err = base.Plan(validation.Rules{}, sets...); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(r.Plan)
		must(t, err)
		out.Write(data)
	}
	for _, format := range []report.Format{report.Text, report.JSON, report.GitHub, report.SARIF, report.JUnit, report.Markdown} {
		must(t, report.Write(out, format, r, report.Options{}))
	}
}

// printState prints status, heads and an export.
func printState(t *testing.T, out *printed, store registry.Store, base *reconciler.Base) {
	t.Helper()
	found, err := status.Compute(mirrorOf(t, store))
	must(t, err)
	must(t, found.Render(out, time.Now()))
	data, err := json.Marshal(found)
	must(t, err)
	out.Write(data)
	must(t, base.Export(out))
	kvs, _, err := store.List(t.Context(), schema.Events.Prefix(""), 0)
	must(t, err)
	for _, kv := range kvs {
		out.Write(kv.Value)
	}
}
