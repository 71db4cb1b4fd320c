package images

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Image is an image on the node's disk.
type Image struct {
	ID     string
	Refs   []string
	Size   int64
	Pinned bool // it never goes: it could not be pulled again
}

// Thresholds say when images go, as the kubelet's --image-gc flags do.
type Thresholds struct {
	High, Low int           // percent of the disk in use: from High on images go, until Low is reached
	MinAge    time.Duration // a younger image stays
}

// Validate names what is wrong.
func (t Thresholds) Validate() error {
	switch {
	case t.High < 0 || t.High > 100:
		return fmt.Errorf("image GC high threshold %d: must be 0 to 100", t.High)
	case t.Low < 0 || t.Low > t.High:
		return fmt.Errorf("image GC low threshold %d: must be 0 to the high threshold, %d", t.Low, t.High)
	case t.MinAge < 0:
		return fmt.Errorf("image GC minimum age %v is negative", t.MinAge)
	}
	return nil
}

// ToFree is how many bytes must go from a disk; 0 below the high threshold.
// With a high threshold of 100, images never go for want of space here.
func (t Thresholds) ToFree(capacity, available int64) int64 {
	if capacity <= 0 || t.High == 100 {
		return 0
	}
	available = min(available, capacity)
	if used := 100 - int(available*100/capacity); used < t.High {
		return 0
	}
	return max(0, capacity*int64(100-t.Low)/100-available)
}

// Ages remembers since when images are there, and when they were last used.
// The zero value is ready; it is for one goroutine.
type Ages struct {
	images map[string]age
	began  bool
}

type age struct {
	first time.Time // zero: before this process looked
	used  time.Time // zero: never since
}

// See takes in a list of all images, with the IDs of those in use, and forgets
// the ones that are gone. What is there the first time is as old as it gets.
func (a *Ages) See(list []Image, inUse map[string]bool, now time.Time) {
	next := make(map[string]age, len(list))
	for _, img := range list {
		seen, known := a.images[img.ID]
		if !known && a.began {
			seen.first = now
		}
		if inUse[img.ID] {
			seen.used = now
		}
		next[img.ID] = seen
	}
	a.images, a.began = next, true
}

// Unused returns the images that may go, in the order in which they go: the
// one that was not used for the longest first, then the one that is there for
// the longest. list and inUse are as last seen.
func (a *Ages) Unused(list []Image, inUse map[string]bool, minAge time.Duration, now time.Time) []Image {
	var out []Image
	for _, img := range list {
		if !img.Pinned && !inUse[img.ID] && now.Sub(a.images[img.ID].first) >= minAge {
			out = append(out, img)
		}
	}
	slices.SortStableFunc(out, func(x, y Image) int {
		ax, ay := a.images[x.ID], a.images[y.ID]
		return cmp.Or(ax.used.Compare(ay.used), ax.first.Compare(ay.first), cmp.Compare(x.ID, y.ID))
	})
	return out
}

// Enough returns the first of some images that together have a size, or all
// of them.
func Enough(list []Image, bytes int64) []Image {
	var sum int64
	for i, img := range list {
		if sum >= bytes {
			return list[:i]
		}
		sum += img.Size
	}
	return list
}
