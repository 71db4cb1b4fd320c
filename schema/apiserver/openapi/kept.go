package openapi

import (
	"sync"
	"time"
)

// kept is a value that takes much to make and to hold: it is made when it is
// wanted, and let go of when nobody wanted it for a while.
type kept[T any] struct {
	make func() (T, error)
	idle time.Duration // until it is let go of

	mu    sync.Mutex
	there bool
	value T
	timer *time.Timer
}

// get returns the value. It is safe to call at once by several goroutines.
func (k *kept[T]) get() (T, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.there {
		k.timer.Reset(k.idle)
		return k.value, nil
	}
	value, err := k.make()
	if err != nil {
		return value, err
	}
	k.there, k.value = true, value
	k.timer = time.AfterFunc(k.idle, k.drop)
	return value, nil
}

func (k *kept[T]) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	var none T
	k.there, k.value = false, none
}
