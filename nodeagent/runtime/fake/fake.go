// Package fake is a runtime.Runtime in memory, for tests of what stands above
// a container runtime. It starts no goroutine and waits for nothing, so that
// it works inside a synctest bubble; time is the bubble's.
package fake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Runtime is safe to call at once. Make one with New.
type Runtime struct {
	mu         sync.Mutex
	images     map[string]rt.Image
	remote     map[string]rt.Image
	containers map[string]*container
	subs       map[*subscription]struct{}
	faults     map[string][]error
	calls      map[string]int
	execs      ExecFunc
	ignoreTerm map[string]bool
	mounted    map[string]rt.ImageMount // by target
	pid        int
}

type container struct {
	spec   rt.Container
	status rt.Status
	input  []byte // written to its standard input
	eof    bool   // which was then closed
	size   rt.TerminalSize
}

type subscription struct{ ch chan rt.Event }

// ExecFunc answers Exec.
type ExecFunc func(ctx context.Context, id string, command []string) (exitCode int, output []byte, err error)

var _ rt.Runtime = (*Runtime)(nil)

// New returns a Runtime that has no image and no container.
func New() *Runtime {
	return &Runtime{
		images: map[string]rt.Image{}, remote: map[string]rt.Image{}, containers: map[string]*container{},
		subs: map[*subscription]struct{}{}, faults: map[string][]error{}, calls: map[string]int{},
		ignoreTerm: map[string]bool{}, mounted: map[string]rt.ImageMount{}, pid: 1000,
	}
}

// AddImage puts an image into the local store, under its Ref.
func (r *Runtime) AddImage(img rt.Image) { r.addTo(r.images, img) }

// AddRemoteImage makes an image that Pull finds.
func (r *Runtime) AddRemoteImage(img rt.Image) { r.addTo(r.remote, img) }

func (r *Runtime) addTo(store map[string]rt.Image, img rt.Image) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if img.ID == "" {
		img.ID = "sha256:" + img.Ref
	}
	img.Access.Anybody = len(img.Access.Keys) == 0
	store[img.Ref] = img
}

// FailNext makes the next call of a method ("Start", "Pull", "Containers", …)
// return err. Several are returned one after the other.
func (r *Runtime) FailNext(method string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[method] = append(r.faults[method], err)
}

// Calls counts the calls of a method, failed ones too.
func (r *Runtime) Calls(method string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[method]
}

// OnExec sets what Exec answers. Without it commands succeed silently.
func (r *Runtime) OnExec(f ExecFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.execs = f
}

// IgnoreSIGTERM makes the containers of that name run on when they get a
// SIGTERM. Others exit with code 143.
func (r *Runtime) IgnoreSIGTERM(containerName string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ignoreTerm[containerName] = true
}

// Exit makes a running container exit by itself, and sends the event. It
// reports whether the container ran.
func (r *Runtime) Exit(id string, code int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.exitLocked(id, code, false)
}

// OOM makes a running container exit for want of memory.
func (r *Runtime) OOM(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.exitLocked(id, 137, true)
}

// Find returns the id of a pod's newest container of a name, or "".
func (r *Runtime) Find(podUID, name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var newest *container
	for _, id := range slices.Sorted(maps.Keys(r.containers)) {
		c := r.containers[id]
		if c.spec.Pod.UID == podUID && c.spec.Name == name && (newest == nil || c.spec.Attempt >= newest.spec.Attempt) {
			newest = c
		}
	}
	if newest == nil {
		return ""
	}
	return newest.spec.ID
}

// Spec returns what a container was started with.
func (r *Runtime) Spec(id string) (rt.Container, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.containers[id]
	if !ok {
		return rt.Container{}, false
	}
	return c.spec, true
}

// Input is what was written to a container's standard input, and whether it
// was closed.
func (r *Runtime) Input(id string) (data []byte, eof bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.containers[id]; ok {
		return slices.Clone(c.input), c.eof
	}
	return nil, false
}

// Terminal is the size that a container's terminal was last given.
func (r *Runtime) Terminal(id string) rt.TerminalSize {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.containers[id]; ok {
		return c.size
	}
	return rt.TerminalSize{}
}

// Dump lists images and containers, one a line, in order of name.
func (r *Runtime) Dump() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, ref := range slices.Sorted(maps.Keys(r.images)) {
		fmt.Fprintf(&b, "image %s\n", ref)
	}
	for _, id := range slices.Sorted(maps.Keys(r.containers)) {
		s := r.containers[id].status
		fmt.Fprintf(&b, "container %s pod=%s/%s name=%s attempt=%d %s", id, s.Pod.Namespace, s.Pod.Name, s.Name, s.Attempt, s.State)
		if s.State == rt.Exited {
			fmt.Fprintf(&b, " code=%d oom=%t", s.ExitCode, s.OOMKilled)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// DropEvents closes all event channels, as a lost runtime does.
func (r *Runtime) DropEvents() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.subs {
		r.closeLocked(s)
	}
}

func (r *Runtime) exitLocked(id string, code int, oom bool) bool {
	c, ok := r.containers[id]
	if !ok || c.status.State != rt.Running {
		return false
	}
	c.status.State, c.status.ExitCode, c.status.OOMKilled = rt.Exited, code, oom
	c.status.PID, c.status.FinishedAt = 0, time.Now()
	event := rt.Event{ContainerID: id, PodUID: c.spec.Pod.UID, Exited: true, OOM: oom}
	for s := range r.subs {
		select {
		case s.ch <- event:
		default: // an event is a hint: who does not read it must look anyway
		}
	}
	return true
}

func (r *Runtime) closeLocked(s *subscription) {
	if _, open := r.subs[s]; open {
		delete(r.subs, s)
		close(s.ch)
	}
}

// enterLocked counts a call and takes its fault, if one is set.
func (r *Runtime) enterLocked(ctx context.Context, method string) error {
	r.calls[method]++
	if err := ctx.Err(); err != nil {
		return err
	}
	if faults := r.faults[method]; len(faults) > 0 {
		r.faults[method] = faults[1:]
		return faults[0]
	}
	return nil
}
