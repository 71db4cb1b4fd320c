package images

import "time"

// How long an image that could not be pulled is left alone, as the kubelet
// has it.
const (
	firstDelay = 10 * time.Second
	maxDelay   = 5 * time.Minute
)

// Backoff counts the pulls of a pod's images that went wrong in a row. The
// zero value is ready; it is for one goroutine.
type Backoff struct {
	images map[string]failure
}

type failure struct {
	count int
	until time.Time
	err   error
}

// Failed notes a pull that went wrong.
func (b *Backoff) Failed(image string, err error, now time.Time) {
	if b.images == nil {
		b.images = map[string]failure{}
	}
	f := b.images[image]
	// A failure long after the last one is the first of a new row.
	if now.Sub(f.until) > 2*maxDelay {
		f.count = 0
	}
	f.until, f.err = now.Add(min(maxDelay, firstDelay<<min(f.count, 10))), err
	f.count++
	b.images[image] = f
}

// Forget is for an image that was pulled, or that came another way.
func (b *Backoff) Forget(image string) { delete(b.images, image) }

// Wait returns until when an image is left alone and why; ok is false if it
// may be pulled now.
func (b *Backoff) Wait(image string, now time.Time) (until time.Time, why error, ok bool) {
	f, failed := b.images[image]
	return f.until, f.err, failed && now.Before(f.until)
}
