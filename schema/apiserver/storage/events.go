package storage

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/evenkeel/evenkeel/schema"
)

// events are the events of core/v1 as events.k8s.io/v1 has them. They are the
// same objects.
type events struct{ core collection }

var _ rest.StandardStorage = events{}

// NewEvents returns the storage of events.k8s.io/v1.
func NewEvents(cfg *Config) rest.Storage {
	return events{collection{newObjects(cfg, schema.Events)}}
}

// New implements rest.Storage.
func (s events) New() runtime.Object { return &eventsv1.Event{} }

// NewList implements rest.Lister.
func (s events) NewList() runtime.Object { return &eventsv1.EventList{} }

// Destroy implements rest.Storage.
func (s events) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (s events) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider.
func (s events) GetSingularName() string { return schema.Events.Singular }

// ShortNames implements rest.ShortNamesProvider.
func (s events) ShortNames() []string { return schema.Events.ShortNames }

// ConvertToTable implements rest.TableConvertor.
func (s events) ConvertToTable(ctx context.Context, obj, opts runtime.Object) (*metav1.Table, error) {
	converted := toCore(obj)
	table, err := s.core.ConvertToTable(ctx, converted, opts)
	if err != nil {
		return nil, err
	}
	for i := range table.Rows {
		table.Rows[i].Object.Object = toEvents(table.Rows[i].Object.Object)
	}
	return table, nil
}

// Get implements rest.Getter.
func (s events) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	return converted(s.core.Get(ctx, name, opts))
}

// List implements rest.Lister.
func (s events) List(ctx context.Context, opts *metainternalversion.ListOptions) (runtime.Object, error) {
	return converted(s.core.List(ctx, opts))
}

// Watch implements rest.Watcher.
func (s events) Watch(ctx context.Context, opts *metainternalversion.ListOptions) (watch.Interface, error) {
	w, err := s.core.Watch(ctx, opts)
	if err != nil {
		return nil, err
	}
	return watch.Filter(w, func(e watch.Event) (watch.Event, bool) {
		if co, ok := e.Object.(runtime.CacheableObject); ok {
			e.Object = co.GetObject()
		}
		e.Object = toEvents(e.Object)
		return e, true
	}), nil
}

// Create implements rest.Creater.
func (s events) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, opts *metav1.CreateOptions) (runtime.Object, error) {
	return converted(s.core.Create(ctx, toCore(obj), asEvents(validate), opts))
}

// Update implements rest.Updater.
func (s events) Update(
	ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc,
	update rest.ValidateObjectUpdateFunc, force bool, opts *metav1.UpdateOptions,
) (runtime.Object, bool, error) {
	validate := func(ctx context.Context, obj, old runtime.Object) error {
		return update(ctx, toEvents(obj), toEvents(old))
	}
	obj, created, err := s.core.Update(ctx, name, eventInfo{info}, asEvents(create), validate, force, opts)
	if err != nil {
		return nil, false, err
	}
	return toEvents(obj), created, nil
}

// Delete implements rest.GracefulDeleter.
func (s events) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, opts *metav1.DeleteOptions) (runtime.Object, bool, error) {
	obj, gone, err := s.core.Delete(ctx, name, asEvents(validate), opts)
	if err != nil {
		return nil, false, err
	}
	return toEvents(obj), gone, nil
}

// DeleteCollection implements rest.CollectionDeleter.
func (s events) DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, opts *metav1.DeleteOptions, which *metainternalversion.ListOptions) (runtime.Object, error) {
	return converted(s.core.DeleteCollection(ctx, asEvents(validate), opts, which))
}

// eventInfo changes an event of core/v1 by what changes it in events.k8s.io/v1.
type eventInfo struct{ rest.UpdatedObjectInfo }

// UpdatedObject implements rest.UpdatedObjectInfo.
func (i eventInfo) UpdatedObject(ctx context.Context, old runtime.Object) (runtime.Object, error) {
	obj, err := i.UpdatedObjectInfo.UpdatedObject(ctx, toEvents(old))
	if err != nil {
		return nil, err
	}
	return toCore(obj), nil
}

func asEvents(validate rest.ValidateObjectFunc) rest.ValidateObjectFunc {
	if validate == nil {
		return nil
	}
	return func(ctx context.Context, obj runtime.Object) error { return validate(ctx, toEvents(obj)) }
}

func converted(obj runtime.Object, err error) (runtime.Object, error) {
	if err != nil {
		return nil, err
	}
	return toEvents(obj), nil
}

// toEvents converts an event, or a list of them, of core/v1 to events.k8s.io/v1.
// Anything else stays as it is.
func toEvents(obj runtime.Object) runtime.Object {
	switch o := obj.(type) {
	case *corev1.Event:
		return eventFromCore(o)
	case *corev1.EventList:
		list := &eventsv1.EventList{ListMeta: o.ListMeta, Items: make([]eventsv1.Event, 0, len(o.Items))}
		for i := range o.Items {
			list.Items = append(list.Items, *eventFromCore(&o.Items[i]))
		}
		return list
	}
	return obj
}

// toCore is the inverse of toEvents.
func toCore(obj runtime.Object) runtime.Object {
	switch o := obj.(type) {
	case *eventsv1.Event:
		return eventToCore(o)
	case *eventsv1.EventList:
		list := &corev1.EventList{ListMeta: o.ListMeta}
		_ = meta.EachListItem(o, func(item runtime.Object) error {
			list.Items = append(list.Items, *eventToCore(item.(*eventsv1.Event)))
			return nil
		})
		return list
	}
	return obj
}

func eventFromCore(e *corev1.Event) *eventsv1.Event {
	out := &eventsv1.Event{
		ObjectMeta: e.ObjectMeta, EventTime: e.EventTime,
		ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
		Action: e.Action, Reason: e.Reason, Regarding: e.InvolvedObject, Related: e.Related, Note: e.Message, Type: e.Type,
		DeprecatedSource: e.Source, DeprecatedFirstTimestamp: e.FirstTimestamp, DeprecatedLastTimestamp: e.LastTimestamp, DeprecatedCount: e.Count,
	}
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}

func eventToCore(e *eventsv1.Event) *corev1.Event {
	out := &corev1.Event{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta: e.ObjectMeta, EventTime: e.EventTime,
		ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
		Action: e.Action, Reason: e.Reason, InvolvedObject: e.Regarding, Related: e.Related, Message: e.Note, Type: e.Type,
		Source: e.DeprecatedSource, FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp, Count: e.DeprecatedCount,
	}
	if e.Series != nil {
		out.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}
