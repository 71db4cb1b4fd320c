package feed

import (
	"bytes"
	"io"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/scheme"
)

// object is an object of an event with its encodings: each is made by the
// first watcher that wants it. It implements runtime.CacheableObject.
type object struct {
	schema.Object // shared, never changed

	mu       sync.Mutex
	encoding map[runtime.Identifier]*encoding
}

type encoding struct {
	once sync.Once
	raw  []byte
	err  error
}

func newObject(obj schema.Object) *object { return &object{Object: obj} }

// CacheEncode implements runtime.CacheableObject.
func (o *object) CacheEncode(id runtime.Identifier, encode func(runtime.Object, io.Writer) error, w io.Writer) error {
	e := o.encodingOf(id)
	e.once.Do(func() {
		var buf bytes.Buffer
		e.err = encode(o.GetObject(), &buf)
		e.raw = buf.Bytes()
	})
	if e.err != nil {
		return e.err
	}
	if splice, ok := w.(runtime.Splice); ok {
		splice.Splice(e.raw)
		return nil
	}
	_, err := w.Write(e.raw)
	return err
}

func (o *object) encodingOf(id runtime.Identifier) *encoding {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.encoding[id]
	if e == nil {
		e = &encoding{}
		if o.encoding == nil {
			o.encoding = map[runtime.Identifier]*encoding{}
		}
		o.encoding[id] = e
	}
	return e
}

// GetObject implements runtime.CacheableObject. What it returns may have its
// kind set; all below that is shared.
func (o *object) GetObject() runtime.Object { return scheme.Shallow(o.Object) }

// DeepCopyObject implements runtime.Object.
func (o *object) DeepCopyObject() runtime.Object { return o.Object.DeepCopyObject() }
