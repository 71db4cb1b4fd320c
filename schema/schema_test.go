package schema

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestCodecRoundTrip(t *testing.T) {
	for _, k := range Kinds {
		t.Run(k.Resource, func(t *testing.T) {
			want := k.New()
			want.SetName("a")
			want.SetLabels(map[string]string{"app": "x"})
			data, err := Encode(want)
			if err != nil {
				t.Fatal(err)
			}
			if string(data[:4]) != "k8s\x00" {
				t.Errorf("no storage envelope: %q", data[:4])
			}
			got, err := DecodeObject(data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("round trip (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEncodeWithoutTypeMeta(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	data, err := Encode(pod)
	if err != nil {
		t.Fatal(err)
	}
	if pod.Kind != "" {
		t.Error("argument changed")
	}
	got, err := DecodeObject(data)
	if err != nil {
		t.Fatal(err)
	}
	if got.GetObjectKind().GroupVersionKind() != Pods.GVK {
		t.Errorf("kind %v", got.GetObjectKind().GroupVersionKind())
	}
}

func TestKeyPaths(t *testing.T) {
	for _, key := range []Key{{"pods", "shop", "web-1"}, {"nodes", "", "n1"}} {
		got, err := ParsePath(key.Path())
		if err != nil || got != key {
			t.Errorf("ParsePath(%q) = %v, %v", key.Path(), got, err)
		}
	}
	for _, bad := range []string{"/registry/pods/a", "/registry/podstatus/n/a/b", "pods/a/b", "/registry/nodes/a/b"} {
		if got, err := ParsePath(bad); err == nil {
			t.Errorf("ParsePath(%q) = %v", bad, got)
		}
	}
}
