package validation

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/evenkeel/evenkeel/schema"
)

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "default", Name: name}
}

func pod(change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: meta("web"), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "nginx"}}}}
	for _, c := range change {
		c(p)
	}
	return p
}

func controller(change ...func(*corev1.ReplicationController)) *corev1.ReplicationController {
	rc := &corev1.ReplicationController{ObjectMeta: meta("web")}
	rc.Spec.Template = &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}, Spec: pod().Spec}
	for _, c := range change {
		c(rc)
	}
	return rc
}

func volume(source corev1.PersistentVolumeSource) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, PersistentVolumeSource: source,
	}}
}

func claim(size string) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: meta("c")}
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	return c
}

func fieldsOf(errs field.ErrorList) []string {
	var fields []string
	for _, e := range errs {
		fields = append(fields, e.Field+": "+string(e.Type))
	}
	return fields
}

func TestValidate(t *testing.T) {
	minus := int32(-1)
	service := func(spec corev1.ServiceSpec) *corev1.Service {
		return &corev1.Service{ObjectMeta: meta("web"), Spec: spec}
	}
	port := []corev1.ServicePort{{Port: 80}}
	for name, tc := range map[string]struct {
		obj  schema.Object
		want []string
	}{
		"pod":                    {pod(), nil},
		"pod without containers": {pod(func(p *corev1.Pod) { p.Spec.Containers = nil }), []string{"spec.containers: FieldValueRequired"}},
		"pod without image":      {pod(func(p *corev1.Pod) { p.Spec.Containers[0].Image = "" }), []string{"spec.containers[0].image: FieldValueRequired"}},
		"pod affinity": {pod(func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{
				NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
					{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "a", Operator: corev1.NodeSelectorOpIn}}},
				}}},
				PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
					{Weight: 101, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: "zone"}},
				}},
			}
		}), []string{
			"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: FieldValueRequired",
			"spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: FieldValueInvalid",
		}},
		"pod name":              {pod(func(p *corev1.Pod) { p.Name = "A_b" }), []string{"metadata.name: FieldValueInvalid"}},
		"controller":            {controller(), nil},
		"controller below zero": {controller(func(rc *corev1.ReplicationController) { rc.Spec.Replicas = &minus }), []string{"spec.replicas: FieldValueInvalid"}},
		"controller seconds":    {controller(func(rc *corev1.ReplicationController) { rc.Spec.MinReadySeconds = -1 }), []string{"spec.minReadySeconds: FieldValueInvalid"}},
		"controller no template": {controller(func(rc *corev1.ReplicationController) {
			rc.Spec.Template, rc.Spec.Selector = nil, map[string]string{"a": "b"}
		}), []string{"spec.template: FieldValueRequired"}},
		"controller selector":      {controller(func(rc *corev1.ReplicationController) { rc.Spec.Selector = map[string]string{"a": "b"} }), []string{"spec.template.metadata.labels: FieldValueInvalid"}},
		"service":                  {service(corev1.ServiceSpec{Ports: port}), nil},
		"service node port":        {service(corev1.ServiceSpec{Ports: port, Type: corev1.ServiceTypeNodePort}), nil},
		"service headless":         {service(corev1.ServiceSpec{Ports: port, ClusterIP: "None"}), nil},
		"service with address":     {service(corev1.ServiceSpec{Ports: port, ClusterIP: "10.96.0.9"}), nil},
		"service without ports":    {service(corev1.ServiceSpec{}), []string{"spec.ports: FieldValueRequired"}},
		"service external":         {service(corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.org"}), nil},
		"service external, empty":  {service(corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName}), []string{"spec.externalName: FieldValueRequired"}},
		"endpoints":                {&corev1.Endpoints{ObjectMeta: meta("web"), Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "10.0.0.1"}}, Ports: []corev1.EndpointPort{{Port: 80}}}}}, nil},
		"endpoint slice":           {&discoveryv1.EndpointSlice{ObjectMeta: meta("web"), AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}}}, nil},
		"endpoint slice, no type":  {&discoveryv1.EndpointSlice{ObjectMeta: meta("web")}, []string{"addressType: FieldValueRequired"}},
		"node":                     {&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, nil},
		"namespace":                {&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, nil},
		"service account":          {&corev1.ServiceAccount{ObjectMeta: meta("a")}, nil},
		"role":                     {&rbacv1.Role{ObjectMeta: meta("a"), Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, Resources: []string{"pods"}, APIGroups: []string{""}}}}, nil},
		"role without verbs":       {&rbacv1.Role{ObjectMeta: meta("a"), Rules: []rbacv1.PolicyRule{{Resources: []string{"pods"}, APIGroups: []string{""}}}}, []string{"rules[0].verbs: FieldValueRequired"}},
		"cluster role":             {&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "a:b"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz"}}}}, nil},
		"role binding":             {&rbacv1.RoleBinding{ObjectMeta: meta("a"), RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "a"}, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "a", Namespace: "default"}}}, nil},
		"cluster binding, to what": {&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "a"}, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "a"}}, []string{"roleRef.kind: FieldValueNotSupported"}},
		"lease":                    {&coordinationv1.Lease{ObjectMeta: meta("a")}, nil},
		"storage class":            {&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Provisioner: "kubernetes.io/no-provisioner"}, nil},
		"volume":                   {volume(corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/d"}}), nil},
		"volume, local, anywhere":  {volume(corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/d"}}), []string{"spec.nodeAffinity: FieldValueRequired"}},
		"claim":                    {claim("1Gi"), nil},
		"claim of nothing":         {claim("0"), []string{"spec.resources[storage]: FieldValueInvalid"}},
		"config map key":           {&corev1.ConfigMap{ObjectMeta: meta("c"), Data: map[string]string{"a b": ""}}, []string{"data[a b]: FieldValueInvalid"}},
		"secret, string data":      {&corev1.Secret{ObjectMeta: meta("s"), StringData: map[string]string{"a": "b"}}, nil},
		"event":                    {&corev1.Event{ObjectMeta: meta("e"), InvolvedObject: corev1.ObjectReference{Namespace: "default"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			Default(tc.obj)
			before := tc.obj.DeepCopyObject()
			if diff := cmp.Diff(tc.want, fieldsOf(Validate(tc.obj))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tc.obj); diff != "" {
				t.Errorf("Validate changed its argument:\n%s", diff)
			}
			Default(tc.obj)
			if diff := cmp.Diff(before, tc.obj); diff != "" {
				t.Errorf("Default is not idempotent:\n%s", diff)
			}
		})
	}
}

func TestValidateUpdate(t *testing.T) {
	immutable := true
	for name, tc := range map[string]struct {
		old, obj schema.Object
		want     []string
	}{
		"same":           {pod(), pod(), nil},
		"pod image":      {pod(), pod(func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other" }), nil},
		"pod command":    {pod(), pod(func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"x"} }), []string{"spec: FieldValueForbidden"}},
		"replicas":       {controller(), controller(func(rc *corev1.ReplicationController) { n := int32(7); rc.Spec.Replicas = &n }), nil},
		"immutable map":  {&corev1.ConfigMap{ObjectMeta: meta("c"), Immutable: &immutable}, &corev1.ConfigMap{ObjectMeta: meta("c"), Immutable: &immutable, Data: map[string]string{"a": "b"}}, []string{"data: FieldValueForbidden"}},
		"secret type":    {&corev1.Secret{ObjectMeta: meta("s")}, &corev1.Secret{ObjectMeta: meta("s"), Type: "other"}, []string{"type: FieldValueInvalid"}},
		"another kind":   {pod(), controller(), []string{"<nil>: InternalError"}},
		"another name":   {pod(), pod(func(p *corev1.Pod) { p.Name = "other" }), []string{"metadata.name: FieldValueInvalid"}},
		"cluster IP":     {&corev1.Service{ObjectMeta: meta("s"), Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Port: 1}}}}, &corev1.Service{ObjectMeta: meta("s"), Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.2", Ports: []corev1.ServicePort{{Port: 1}}}}, []string{"spec.clusterIPs[0]: FieldValueInvalid"}},
		"address family": {&discoveryv1.EndpointSlice{ObjectMeta: meta("e"), AddressType: "IPv4"}, &discoveryv1.EndpointSlice{ObjectMeta: meta("e"), AddressType: "IPv6"}, []string{"addressType: FieldValueInvalid"}},
	} {
		t.Run(name, func(t *testing.T) {
			Default(tc.old)
			Default(tc.obj)
			if diff := cmp.Diff(tc.want, fieldsOf(ValidateUpdate(tc.obj, tc.old))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDefault(t *testing.T) {
	secret := &corev1.Secret{Data: map[string][]byte{"a": []byte("1")}, StringData: map[string]string{"a": "2"}}
	Default(secret)
	if string(secret.Data["a"]) != "2" || secret.StringData != nil || secret.Type != corev1.SecretTypeOpaque {
		t.Errorf("secret: %+v", secret)
	}

	rc := controller()
	Default(rc)
	rc.Labels["more"] = "x"
	want := map[string]string{"app": "web"}
	if diff := cmp.Diff(want, rc.Spec.Selector); diff != "" {
		t.Errorf("the selector shares the labels' map:\n%s", diff)
	}
	if diff := cmp.Diff(want, rc.Spec.Template.Labels); diff != "" {
		t.Errorf("the template shares the labels' map:\n%s", diff)
	}

	service := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.9"}}
	Default(service)
	if diff := cmp.Diff([]string{"10.96.0.9"}, service.Spec.ClusterIPs); diff != "" {
		t.Error(diff)
	}
}

func BenchmarkDefaultAndValidate(b *testing.B) {
	for _, bc := range []struct {
		name string
		obj  schema.Object
	}{{"pod", pod()}, {"controller", controller()}} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				obj := bc.obj.DeepCopyObject().(schema.Object)
				Default(obj)
				if errs := Validate(obj); len(errs) > 0 {
					b.Fatal(errs)
				}
			}
		})
	}
}
