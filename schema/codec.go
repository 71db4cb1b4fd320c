package schema

import (
	"bytes"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

// storage writes and reads Kubernetes' own storage encoding: protobuf behind
// the envelope "k8s\0" (k8s.io/apimachinery/pkg/runtime/serializer/protobuf).
var storage = protobuf.NewSerializer(Scheme, Scheme)

// Encode returns the storage encoding of an object. An object whose TypeMeta
// is not set is copied first; the argument is never changed.
func Encode(obj runtime.Object) ([]byte, error) {
	if obj.GetObjectKind().GroupVersionKind().Empty() {
		gvks, _, err := Scheme.ObjectKinds(obj)
		if err != nil {
			return nil, fmt.Errorf("encode %T: %w", obj, err)
		}
		obj = obj.DeepCopyObject()
		obj.GetObjectKind().SetGroupVersionKind(gvks[0])
	}
	var buf bytes.Buffer
	if err := storage.Encode(obj, &buf); err != nil {
		return nil, fmt.Errorf("encode %T: %w", obj, err)
	}
	return buf.Bytes(), nil
}

// Decode reads what Encode wrote. The object has its TypeMeta set and shares
// no memory with data.
func Decode(data []byte) (runtime.Object, error) {
	obj, gvk, err := storage.Decode(data, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("decode %d bytes: %w", len(data), err)
	}
	obj.GetObjectKind().SetGroupVersionKind(*gvk)
	return obj, nil
}

// DecodeObject is Decode for values that must be one object with metadata.
func DecodeObject(data []byte) (Object, error) {
	decoded, err := Decode(data)
	if err != nil {
		return nil, err
	}
	obj, ok := decoded.(Object)
	if !ok {
		return nil, fmt.Errorf("decode %T: not an object with metadata", decoded)
	}
	return obj, nil
}

// JSON returns the object as JSON with its TypeMeta, as a manifest has it.
func JSON(obj Object) ([]byte, error) {
	k, err := KindOf(obj)
	if err != nil {
		return nil, err
	}
	if obj.GetObjectKind().GroupVersionKind() != k.GVK {
		obj = obj.DeepCopyObject().(Object)
		obj.GetObjectKind().SetGroupVersionKind(k.GVK)
	}
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %s as JSON: %w", KeyOf(obj), err)
	}
	return data, nil
}
