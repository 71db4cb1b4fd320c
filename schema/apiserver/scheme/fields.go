package scheme

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"github.com/evenkeel/evenkeel/schema"
)

// labels are the fields by which objects can be selected, beside metadata.name
// and metadata.namespace: those of Kubernetes (AddFieldLabelConversionFunc in
// k8s.io/kubernetes/pkg/apis). Kinds that are not here have only those two.
var labels = map[string][]string{
	"pods": {
		"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
		"status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
	},
	"nodes":                  {"spec.unschedulable"},
	"replicationcontrollers": {"status.replicas"},
	"namespaces":             {"status.phase"},
	"secrets":                {"type"},
	"services":               {"spec.clusterIP", "spec.type"},
	"events": {
		"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
		"involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
		"reason", "reportingComponent", "source", "type",
	},
}

func addFieldLabels(s *runtime.Scheme) {
	for _, kind := range schema.Kinds {
		known := append([]string{"metadata.name"}, labels[kind.Resource]...)
		if kind.Namespaced {
			known = append(known, "metadata.namespace")
		}
		utilruntime.Must(s.AddFieldLabelConversionFunc(kind.GVK, func(label, value string) (string, string, error) {
			if kind == schema.Pods && label == "spec.host" { // as old clients say it
				label = "spec.nodeName"
			}
			return checkLabel(known, label, value)
		}))
	}
	known := append([]string{"metadata.name", "metadata.namespace"}, labels["events"]...)
	utilruntime.Must(s.AddFieldLabelConversionFunc(eventsv1.SchemeGroupVersion.WithKind("Event"), func(label, value string) (string, string, error) {
		return checkLabel(known, coreEventLabel(label), value)
	}))
}

func checkLabel(known []string, label, value string) (string, string, error) {
	if !slices.Contains(known, label) {
		return "", "", fmt.Errorf("field label not supported: %s", label)
	}
	return label, value, nil
}

// coreEventLabel turns a field of events.k8s.io/v1 into that of core/v1.
func coreEventLabel(label string) string {
	if rest, ok := strings.CutPrefix(label, "regarding."); ok {
		return "involvedObject." + rest
	}
	if label == "reportingController" {
		return "reportingComponent"
	}
	return label
}

// Fields returns the fields by which an object can be selected.
func Fields(obj schema.Object) fields.Set {
	set := fields.Set{"metadata.name": obj.GetName()}
	if ns := obj.GetNamespace(); ns != "" {
		set["metadata.namespace"] = ns
	}
	switch o := obj.(type) {
	case *corev1.Pod:
		podFields(set, o)
	case *corev1.Node:
		set["spec.unschedulable"] = strconv.FormatBool(o.Spec.Unschedulable)
	case *corev1.ReplicationController:
		set["status.replicas"] = strconv.Itoa(int(o.Status.Replicas))
	case *corev1.Namespace:
		set["status.phase"] = string(o.Status.Phase)
	case *corev1.Secret:
		set["type"] = string(o.Type)
	case *corev1.Service:
		set["spec.clusterIP"] = o.Spec.ClusterIP
		set["spec.type"] = string(o.Spec.Type)
	case *corev1.Event:
		eventFields(set, o)
	}
	return set
}

func podFields(set fields.Set, pod *corev1.Pod) {
	set["spec.nodeName"] = pod.Spec.NodeName
	set["spec.restartPolicy"] = string(pod.Spec.RestartPolicy)
	set["spec.schedulerName"] = pod.Spec.SchedulerName
	set["spec.serviceAccountName"] = pod.Spec.ServiceAccountName
	set["spec.hostNetwork"] = strconv.FormatBool(pod.Spec.HostNetwork)
	set["status.phase"] = string(pod.Status.Phase)
	set["status.podIP"] = pod.Status.PodIP
	if set["status.podIP"] == "" && len(pod.Status.PodIPs) > 0 {
		set["status.podIP"] = pod.Status.PodIPs[0].IP
	}
	ips := make([]string, 0, len(pod.Status.PodIPs))
	for _, ip := range pod.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	set["status.podIPs"] = strings.Join(ips, ",")
	set["status.nominatedNodeName"] = pod.Status.NominatedNodeName
}

func eventFields(set fields.Set, e *corev1.Event) {
	set["involvedObject.kind"] = e.InvolvedObject.Kind
	set["involvedObject.namespace"] = e.InvolvedObject.Namespace
	set["involvedObject.name"] = e.InvolvedObject.Name
	set["involvedObject.uid"] = string(e.InvolvedObject.UID)
	set["involvedObject.apiVersion"] = e.InvolvedObject.APIVersion
	set["involvedObject.resourceVersion"] = e.InvolvedObject.ResourceVersion
	set["involvedObject.fieldPath"] = e.InvolvedObject.FieldPath
	set["reason"] = e.Reason
	set["reportingComponent"] = e.ReportingController
	set["source"] = e.Source.Component
	if set["source"] == "" {
		set["source"] = e.ReportingController
	}
	set["type"] = e.Type
}
