package containerd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Update writes cgroups itself: what the OCI runtime noted of a container at
// its start is not read again.
func (r *Runtime) Update(ctx context.Context, u rt.Update) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !insideTree(u.CgroupParent) {
		return fmt.Errorf("update: cgroup %q is not a path below the root", u.CgroupParent)
	}
	if err := r.cgroups.update(u, r.machine.swap); err != nil {
		return fmt.Errorf("update cgroup %s: %w", u.CgroupParent, err)
	}
	return nil
}

// dial is one setting of a cgroup that can be turned, and its files in the
// order in which they are written when it grows.
type dial struct {
	settings  []setting
	now, want int64 // no limit: math.MaxInt64
}

func (d dial) grows() bool   { return d.want > d.now }
func (d dial) shrinks() bool { return d.want < d.now }

// kinds of dials, in the order in which they are turned.
const (
	memoryDial = iota
	quotaDial
	sharesDial
	dialKinds
)

// dials are a cgroup's, by kind. What is zero in r has none.
func (c cgroups) dials(path string, r rt.Resources, swap bool) [dialKinds]*dial {
	var out [dialKinds]*dial
	add := func(kind int, only rt.Resources, want int64) {
		if want == 0 {
			return
		}
		d := &dial{settings: settings(only, c.unified, swap), want: want}
		if kind == memoryDial && !c.unified {
			slices.Reverse(d.settings) // memory and swap together first
		}
		d.now = c.reading(path, kind)
		if kind == sharesDial && c.unified {
			d.want = int64(weight(r.CPUShares))
		}
		out[kind] = d
	}
	add(memoryDial, rt.Resources{MemoryLimit: r.MemoryLimit}, r.MemoryLimit)
	add(quotaDial, rt.Resources{CPUQuota: r.CPUQuota, CPUPeriod: r.CPUPeriod}, r.CPUQuota)
	add(sharesDial, rt.Resources{CPUShares: r.CPUShares}, int64(r.CPUShares))
	return out
}

// readings are the files that say how a dial stands.
var readings = [dialKinds]struct{ controller, file, unified string }{
	memoryDial: {"memory", "memory.limit_in_bytes", "memory.max"},
	quotaDial:  {"cpu", "cpu.cfs_quota_us", "cpu.max"},
	sharesDial: {"cpu", "cpu.shares", "cpu.weight"},
}

func (c cgroups) reading(path string, kind int) int64 {
	f := readings[kind]
	n, err := c.number(f.controller, path, f.file, f.unified)
	if err != nil || n < 0 {
		return math.MaxInt64
	}
	return n
}

// number reads the first number of a cgroup's file, which has another name in
// each version; "max" is math.MaxInt64.
func (c cgroups) number(controller, path, file, unified string) (int64, error) {
	root := c.controllers[controller]
	if c.unified {
		root, file = c.mounts[0], unified
	}
	data, err := os.ReadFile(filepath.Join(root, path, file))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	if first == "max" {
		return math.MaxInt64, nil
	}
	return strconv.ParseInt(first, 10, 64)
}

// update turns, of each kind, what grows from the pod inwards, and what shrinks
// from the containers outwards: at no time has a container more than its pod.
// Among the containers those that shrink make room for those that grow.
func (c cgroups) update(u rt.Update, swap bool) error {
	if err := c.roomy(u, swap); err != nil {
		return err
	}
	pod := c.dials(u.CgroupParent, u.Pod, swap)
	for kind := range dialKinds {
		if d := pod[kind]; d != nil && d.grows() {
			if err := c.turn(u.CgroupParent, d); err != nil {
				return err
			}
		}
		for _, shrinking := range []bool{true, false} {
			for _, one := range u.Containers {
				at := path.Join(u.CgroupParent, one.ID)
				d := c.dials(at, one.Resources, swap)[kind]
				if d == nil || d.shrinks() != shrinking {
					continue
				}
				if err := c.turn(at, d); err != nil {
					return err
				}
			}
		}
		if d := pod[kind]; d != nil && d.shrinks() {
			if err := c.turn(u.CgroupParent, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// turn writes a dial's files. What the kernel has not, and a cgroup that is
// gone, is left out.
func (c cgroups) turn(path string, d *dial) error {
	files := d.settings
	if d.shrinks() {
		files = slices.Clone(files)
		slices.Reverse(files)
	}
	for _, s := range files {
		root := c.controllers[s.controller]
		if c.unified {
			root = c.mounts[0]
		}
		if root == "" {
			continue
		}
		if err := set(filepath.Join(root, path, s.file), s.value); err != nil {
			return err
		}
	}
	return nil
}

// roomy refuses limits of memory below what is used: the kernel would have to
// kill, or refuse half-way.
func (c cgroups) roomy(u rt.Update, swap bool) error {
	var errs []error
	check := func(what, path string, r rt.Resources) {
		d := c.dials(path, rt.Resources{MemoryLimit: r.MemoryLimit}, swap)[memoryDial]
		if d == nil || !d.shrinks() {
			return
		}
		used, err := c.number("memory", path, "memory.usage_in_bytes", "memory.current")
		if err == nil && used >= d.want {
			errs = append(errs, fmt.Errorf("attempting to set %s memory limit (%d) below current usage (%d)", what, d.want, used))
		}
	}
	check("pod", u.CgroupParent, u.Pod)
	for _, one := range u.Containers {
		check(fmt.Sprintf("container %q", one.Name), path.Join(u.CgroupParent, one.ID), one.Resources)
	}
	if len(errs) > 0 {
		return fmt.Errorf("cannot decrease memory limits: %w", errors.Join(errs...))
	}
	return nil
}
