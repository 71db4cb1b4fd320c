// Package tables gives lists and objects the columns that `kubectl get` shows:
// Kubernetes' own, from k8s.io/kubernetes/pkg/printers.
//
// schema/apiserver/storage calls it. It decides nothing and keeps nothing.
package tables

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/printers"
	printersinternal "k8s.io/kubernetes/pkg/printers/internalversion"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/validation"
)

var generator = printers.NewTableGenerator().With(printersinternal.AddHandlers)

// For returns what makes tables of a kind. Kinds for which Kubernetes has no
// columns of their own get name and age.
func For(kind *schema.Kind) rest.TableConvertor {
	if _, err := generate(kind.New(), true); err != nil {
		return rest.NewDefaultTableConvertor(kschema.GroupResource{Group: kind.GVK.Group, Resource: kind.Resource})
	}
	return convertor{kind}
}

type convertor struct{ kind *schema.Kind }

// ConvertToTable implements rest.TableConvertor. The rows carry the objects as
// they were given.
func (c convertor) ConvertToTable(_ context.Context, obj, opts runtime.Object) (*metav1.Table, error) {
	headless := false
	if o, ok := opts.(*metav1.TableOptions); ok && o != nil {
		headless = o.NoHeaders
	}
	if one, ok := obj.(schema.Object); ok {
		table, err := generate(one, headless)
		if err == nil {
			table.ResourceVersion = one.GetResourceVersion()
		}
		return table, err
	}
	table, err := generate(c.kind.New(), headless)
	if err != nil {
		return nil, err
	}
	table.Rows = make([]metav1.TableRow, 0, meta.LenList(obj))
	err = meta.EachListItem(obj, func(item runtime.Object) error {
		one, ok := item.(schema.Object)
		if !ok {
			return fmt.Errorf("table of %s: %T is no object", c.kind.Resource, item)
		}
		rows, err := generate(one, true)
		if err == nil {
			table.Rows = append(table.Rows, rows.Rows...)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	list, err := meta.ListAccessor(obj)
	if err != nil {
		return nil, fmt.Errorf("table of %s: %w", c.kind.Resource, err)
	}
	table.ResourceVersion, table.Continue, table.RemainingItemCount = list.GetResourceVersion(), list.GetContinue(), list.GetRemainingItemCount()
	return table, nil
}

// generate makes the table of one object.
func generate(obj schema.Object, headless bool) (*metav1.Table, error) {
	internal, err := validation.Internal(obj)
	if err != nil {
		return nil, err
	}
	table, err := generator.GenerateTable(internal, printers.GenerateOptions{Wide: true, NoHeaders: headless})
	if err != nil {
		return nil, fmt.Errorf("table of %s: %w", schema.KeyOf(obj), err)
	}
	for i := range table.Rows {
		table.Rows[i].Object.Object = obj
	}
	return table, nil
}
