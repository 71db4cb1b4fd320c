package openapi

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/builder3"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// converterIdle is how long after the last write the types are forgotten. To
// read them again takes a write about 40 ms.
const converterIdle = 5 * time.Minute

// Converter tells the fields of objects apart, for managed fields and for
// server-side apply. The types that it goes by are many, and read when somebody
// writes. It is safe to use at once by several goroutines.
type Converter struct {
	types kept[managedfields.TypeConverter]
}

// NewConverter returns a converter of all types that the API serves.
func NewConverter() *Converter {
	return &Converter{types: kept[managedfields.TypeConverter]{make: newTypes, idle: converterIdle}}
}

func newTypes() (managedfields.TypeConverter, error) {
	config := configV3("")
	var names []string
	for _, root := range roots() {
		if _, ok := config.Definitions[root]; ok {
			names = append(names, root)
		}
	}
	models, err := builder3.BuildOpenAPIDefinitionsForResources(config, names...)
	if err != nil {
		return nil, fmt.Errorf("models of the api's types: %w", err)
	}
	return managedfields.NewTypeConverter(models, false)
}

// ObjectToTyped implements managedfields.TypeConverter.
func (c *Converter) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	types, err := c.types.get()
	if err != nil {
		return nil, err
	}
	return types.ObjectToTyped(obj, opts...)
}

// TypedToObject implements managedfields.TypeConverter.
func (c *Converter) TypedToObject(value *typed.TypedValue) (runtime.Object, error) {
	types, err := c.types.get()
	if err != nil {
		return nil, err
	}
	return types.TypedToObject(value)
}
