package support

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJudge(t *testing.T) {
	tests := map[string]struct {
		resource, document string
		want               []Refusal
	}{
		"supported":    {"pods", `{"spec": {"containers": [{"name": "a", "image": "b", "resources": {}}], "schedulerName": "default-scheduler", "priority": 0}}`, nil},
		"sets nothing": {"pods", `{"spec": {"affinity": {}, "overhead": null, "topologySpreadConstraints": [], "runtimeClassName": ""}}`, nil},
		"fields": {
			"pods", `{"spec": {"affinity": {"nodeAffinity": {"x": 1}}, "overhead": {"cpu": 1}, "containers": [{"name": "a"}, {"name": "b", "volumeDevices": [{"name": "c"}]}]}}`,
			[]Refusal{{Path: "spec.affinity.nodeAffinity.x"}, {Path: "spec.containers[1].volumeDevices"}, {Path: "spec.overhead"}},
		},
		"values": {
			"services", `{"spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1", "fd00::1"], "ports": [{"port": 80, "protocol": "SCTP"}]}}`,
			[]Refusal{
				{Path: "spec.clusterIPs[1]", Value: "fd00::1"},
				{Path: "spec.ports[0].protocol", Value: "SCTP", Values: []string{"TCP", "UDP"}},
				{Path: "spec.type", Value: "LoadBalancer", Values: []string{"ClusterIP", "NodePort", "ExternalName"}},
			},
		},
		"priority":  {"pods", `{"spec": {"priority": 7}}`, []Refusal{{Path: "spec.priority", Value: "7", Values: []string{"0"}}}},
		"any key":   {"configmaps", `{"data": {"a.b": "c"}, "metadata": {"labels": {"d/e": "f"}}}`, nil},
		"all below": {"endpointslices", `{"endpoints": [{"targetRef": {"kind": "Pod", "name": "x"}}]}`, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var document map[string]any
			if err := json.Unmarshal([]byte(test.document), &document); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, For(test.resource).Judge("", document)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
