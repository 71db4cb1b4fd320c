package manifests

import (
	"reflect"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// form is how a Go type looks in a manifest.
type form int

const (
	formStruct form = iota
	formMap
	formList
	formString
	formBool
	formInt
	formBytes // base64
	formQuantity
	formIntOrString
	formText // decodes itself from a JSON string: times and durations
)

// forms of the types that decode themselves.
var ownForms = map[reflect.Type]form{
	reflect.TypeFor[resource.Quantity]():  formQuantity,
	reflect.TypeFor[intstr.IntOrString](): formIntOrString,
	reflect.TypeFor[metav1.Time]():        formText,
	reflect.TypeFor[metav1.MicroTime]():   formText,
	reflect.TypeFor[metav1.Duration]():    formText,
}

var objectMetaType = reflect.TypeFor[metav1.ObjectMeta]()

// plan is what the decoder needs to know of a Go type, worked out once.
type plan struct {
	typ    reflect.Type // without pointer
	form   form
	fields map[string]*fieldPlan // of a struct, by JSON name
	names  []string              // of fields, sorted
	elem   *plan                 // of a map or list
}

type fieldPlan struct {
	name   string
	number int32 // of the name
	index  []int
	plan   *plan
}

// fieldNames are the names of all fields, each with a number for good.
var fieldNames = struct {
	sync.RWMutex
	all     []string
	numbers map[string]int32
}{numbers: map[string]int32{}}

func numberField(name string) int32 {
	fieldNames.Lock()
	defer fieldNames.Unlock()
	number, ok := fieldNames.numbers[name]
	if !ok {
		number = int32(len(fieldNames.all))
		fieldNames.numbers[name] = number
		fieldNames.all = append(fieldNames.all, name)
	}
	return number
}

func fieldName(number int32) string {
	fieldNames.RLock()
	defer fieldNames.RUnlock()
	return fieldNames.all[number]
}

var plans = struct {
	sync.Mutex
	byType map[reflect.Type]*plan
}{byType: map[reflect.Type]*plan{}}

// planFor returns the plan of a type; pointers are looked through.
func planFor(t reflect.Type) *plan {
	plans.Lock()
	defer plans.Unlock()
	return planLocked(t)
}

func planLocked(t reflect.Type) *plan {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if p, ok := plans.byType[t]; ok {
		return p
	}
	p := &plan{typ: t}
	plans.byType[t] = p
	if own, ok := ownForms[t]; ok {
		p.form = own
		return p
	}
	switch t.Kind() {
	case reflect.Struct:
		p.form, p.fields = formStruct, map[string]*fieldPlan{}
		p.addFieldsLocked(t, nil)
		for name := range p.fields {
			p.names = append(p.names, name)
		}
		slices.Sort(p.names)
	case reflect.Map:
		p.form, p.elem = formMap, planLocked(t.Elem())
	case reflect.Slice:
		if p.form = formBytes; t.Elem().Kind() != reflect.Uint8 {
			p.form, p.elem = formList, planLocked(t.Elem())
		}
	case reflect.String:
		p.form = formString
	case reflect.Bool:
		p.form = formBool
	case reflect.Int, reflect.Int32, reflect.Int64:
		p.form = formInt
	default:
		p.form = formText
	}
	return p
}

func (p *plan) addFieldsLocked(t reflect.Type, above []int) {
	for sf := range t.Fields() {
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		index := append(slices.Clone(above), sf.Index...)
		switch {
		case name == "-" || !sf.IsExported():
		case name == "" && sf.Anonymous:
			p.addFieldsLocked(sf.Type, index)
		default:
			p.fields[name] = &fieldPlan{name: name, number: numberField(name), index: index, plan: planLocked(sf.Type)}
		}
	}
}

// settable returns the value to fill for a field, making what pointers need.
func settable(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	return v
}
