package volume

import corev1 "k8s.io/api/core/v1"

// Refs looks up what volumes refer to.
type Refs interface {
	Objects
	Facts
}

// Objects are those of the store that a pod's volumes name.
type Objects interface {
	ConfigMap(namespace, name string) (*corev1.ConfigMap, bool)
	Secret(namespace, name string) (*corev1.Secret, bool)
	Claim(namespace, name string) (*corev1.PersistentVolumeClaim, bool)
	Volume(name string) (*corev1.PersistentVolume, bool)
}

// Facts are what a pod may know of itself: fields and resources for the
// downward API, as text, and the tokens that stand for it.
type Facts interface {
	Field(pod *corev1.Pod, path string) (string, error)
	Resource(pod *corev1.Pod, ref *corev1.ResourceFieldSelector) (string, error)
	Token(pod *corev1.Pod, audience string, seconds int64) (string, bool)
}
