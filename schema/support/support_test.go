package support

import (
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/schema"
)

var update = flag.Bool("update", false, "rewrite testdata/refused.txt and docs/supported.md")

// server are the fields that only a server sets, which readers drop.
var server = []string{
	"apiVersion", "kind", "status", "metadata.generateName", "metadata.selfLink", "metadata.uid", "metadata.resourceVersion",
	"metadata.generation", "metadata.creationTimestamp", "metadata.deletionTimestamp", "metadata.deletionGracePeriodSeconds",
	"metadata.managedFields",
}

// TestEveryFieldIsSupportedOrRefused walks Kubernetes' Go types. The refused
// fields are held in a file, so that a new release's fields show as a change,
// and every line of the table must be met, so that it names no field that
// does not exist.
func TestEveryFieldIsSupportedOrRefused(t *testing.T) {
	var refused []string
	for _, k := range schema.Kinds {
		if !k.Declarable {
			if For(k.Resource) != nil {
				t.Errorf("%s may not be declared, but has supported fields", k.Resource)
			}
			continue
		}
		f := For(k.Resource)
		if f == nil {
			t.Errorf("%s may be declared, but has no supported fields", k.Resource)
			continue
		}
		w := walker{met: map[*Field]bool{f: true}}
		w.fields(reflect.TypeOf(k.New()).Elem(), "", f)
		for _, r := range w.refused {
			refused = append(refused, k.Resource+": "+r)
		}
		for _, path := range unmet(f, "", w.met) {
			t.Errorf("%s: the table lists %s, which Kubernetes does not have", k.Resource, path)
		}
	}
	slices.Sort(refused)
	got := strings.Join(refused, "\n") + "\n"
	const file = "testdata/refused.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("refused fields (-want +got):\n%s", diff)
	}
}

type walker struct {
	refused []string
	met     map[*Field]bool
}

func (w *walker) fields(t reflect.Type, path string, f *Field) {
	for sf := range t.Fields() {
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		if name == "" {
			w.fields(sf.Type, path, f)
			continue
		}
		w.field(sf.Type, strings.TrimPrefix(path+"."+name, "."), f.Child(name))
	}
}

func (w *walker) field(t reflect.Type, path string, f *Field) {
	if slices.Contains(server, path) {
		return
	}
	if f == nil {
		w.refused = append(w.refused, path)
		return
	}
	w.met[f] = true
	if f.whole {
		return
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	_, decodesItself := reflect.New(t).Interface().(interface{ UnmarshalJSON([]byte) error })
	switch {
	case decodesItself, t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
	case t.Kind() == reflect.Struct:
		w.fields(t, path, f)
	case t.Kind() == reflect.Slice:
		w.field(t.Elem(), path+listItem, f.Item())
	case t.Kind() == reflect.Map:
		for name, c := range f.children {
			w.field(t.Elem(), path+"."+name, c)
		}
		if f.children[anyKey] == nil {
			w.refused = append(w.refused, path+".*")
		}
	}
}

func unmet(f *Field, path string, met map[*Field]bool) []string {
	var out []string
	if !met[f] {
		out = append(out, path)
	}
	for name, c := range f.children {
		out = append(out, unmet(c, path+"."+name, met)...)
	}
	return out
}

func TestValues(t *testing.T) {
	service := For("services").Child("spec")
	for _, tc := range []struct {
		field *Field
		value string
		want  bool
	}{
		{service.Child("type"), "NodePort", true},
		{service.Child("type"), "LoadBalancer", false},
		{service.Child("clusterIP"), "None", true},
		{service.Child("clusterIP"), "fd00::1", false},
		{service.Child("ports").Item().Child("protocol"), "SCTP", false},
		{service.Child("selector").Child("app.kubernetes.io/name"), "x", true},
		{service.Child("loadBalancerIP"), "", false},
		{For("pods").Child("spec").Child("volumes").Item().Child("emptyDir").Child("medium"), "", true},
		{Everything.Child("a").Item().Child("b"), "x", true},
	} {
		if got := tc.field.Allows(tc.value); got != tc.want {
			t.Errorf("Allows(%q) = %v, want %v", tc.value, got, tc.want)
		}
	}
	if diff := cmp.Diff([]string{"ClusterIP", "NodePort", "ExternalName"}, service.Child("type").Values()); diff != "" {
		t.Error(diff)
	}
}
