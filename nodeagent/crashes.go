package nodeagent

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Back-off between restarts of a crashing container: none before the first,
// then 10 s doubling to 5 min, and none again after a run of 10 min
// (Kubernetes: Pod Lifecycle, "How Pods handle problems with containers").
const (
	crashBase  = 10 * time.Second
	crashMax   = 5 * time.Minute
	crashReset = 10 * time.Minute
)

// CrashDelay is how long a container that exited the n-th time in a row waits
// for its restart.
func CrashDelay(n int) time.Duration {
	if n <= 1 {
		return 0
	}
	return min(crashMax, crashBase<<min(n-2, 10))
}

// crashes counts, by container name, the exits in a row without a long run
// between.
type crashes map[string]crash

type crash struct {
	exits   int
	counted int // attempts below this one are in exits
}

// observe counts exits that are new. Of a container that is seen for the first
// time, its attempt stands for the exits that were not seen, unless the one
// before ran long. One that was stopped for other resources has not crashed. An
// exit of a container that is no longer as the pod has it is none of the new
// one's. It returns how many exits were new.
func (c crashes) observe(pod *corev1.Pod, containers []runtime.Status) (exits int) {
	o := Observed{Containers: containers}
	for _, name := range namesOf(containers) {
		last := latest(o, name)
		now, known := c[name]
		if !known {
			now = crash{exits: last.Attempt, counted: last.Attempt}
			if before := attemptOf(o, name, last.Attempt-1); before != nil && (ranLong(before) || before.SpecHash != last.SpecHash) {
				now.exits = 1
			} else if before != nil && noteOf(before).Resize {
				now.exits = 0
			}
		}
		if last.State == runtime.Exited && now.counted <= last.Attempt {
			now.exits++
			now.counted = last.Attempt + 1
			exits++
			if ranLong(last) {
				now.exits = 1
			}
			if noteOf(last).Resize {
				now.exits = 0
			}
		}
		if pod != nil && last.SpecHash != SpecHash(containerNamed(pod, name)) {
			now.exits = 0
		}
		c[name] = now
	}
	return exits
}

func (c crashes) counts() map[string]int {
	out := make(map[string]int, len(c))
	for name, crash := range c {
		out[name] = crash.exits
	}
	return out
}

func ranLong(c *runtime.Status) bool { return c.FinishedAt.Sub(c.StartedAt) >= crashReset }

func namesOf(containers []runtime.Status) []string {
	var out []string
	seen := map[string]bool{}
	for _, c := range containers {
		if !seen[c.Name] {
			seen[c.Name] = true
			out = append(out, c.Name)
		}
	}
	return out
}

// latest returns the newest attempt of a container, or nil.
func latest(o Observed, name string) *runtime.Status {
	var last *runtime.Status
	for i := range o.Containers {
		c := &o.Containers[i]
		if c.Name == name && (last == nil || c.Attempt > last.Attempt) {
			last = c
		}
	}
	return last
}

// attemptOf returns one attempt of a container that exited, or nil.
func attemptOf(o Observed, name string, attempt int) *runtime.Status {
	for i := range o.Containers {
		c := &o.Containers[i]
		if c.Name == name && c.Attempt == attempt && c.State == runtime.Exited {
			return c
		}
	}
	return nil
}
