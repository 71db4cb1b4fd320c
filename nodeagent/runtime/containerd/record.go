package containerd

import (
	"cmp"
	"context"
	"path"
	"strconv"
	"time"

	"github.com/containerd/containerd/v2/core/containers"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// The labels of a container's record.
const (
	labelPodUID       = "evenkeel.io/pod-uid"
	labelPodNamespace = "evenkeel.io/pod-namespace"
	labelPodName      = "evenkeel.io/pod-name"
	labelName         = "evenkeel.io/container"
	labelAttempt      = "evenkeel.io/attempt"
	labelSpecHash     = "evenkeel.io/spec-hash"
	labelImage        = "evenkeel.io/image"
	labelImageID      = "evenkeel.io/image-id"
	labelCgroupParent = "evenkeel.io/cgroup-parent"
	labelRound        = "evenkeel.io/round"
	labelStopSignal   = "evenkeel.io/stop-signal"
	labelNote         = "evenkeel.io/note"
	labelStarted      = "evenkeel.io/started-at"
	labelFinished     = "evenkeel.io/finished-at" // its presence says that the exit is noted
	labelExitCode     = "evenkeel.io/exit-code"
	labelOOM          = "evenkeel.io/oom-killed"
)

func containerLabels(c rt.Container, img image) map[string]string {
	labels := map[string]string{
		labelPodUID: c.Pod.UID, labelPodNamespace: c.Pod.Namespace, labelPodName: c.Pod.Name,
		labelName: c.Name, labelAttempt: strconv.Itoa(c.Attempt), labelSpecHash: c.SpecHash,
		labelImage: img.record.Name, labelImageID: img.name(), labelCgroupParent: c.CgroupParent,
	}
	if signal := cmp.Or(c.StopSignal, rt.Signal(img.config.StopSignal)); signal != 0 {
		labels[labelStopSignal] = strconv.Itoa(signal)
	}
	if c.Round != 0 {
		labels[labelRound] = strconv.Itoa(c.Round)
	}
	if c.Note != "" {
		labels[labelNote] = c.Note
	}
	return labels
}

// name is how a container's status names its image: by the digest that its
// registry knows, or that of its config where it is from nowhere.
func (i image) name() string {
	if public := i.public(); public.Digest != "" {
		return public.Digest
	}
	return i.id.String()
}

// record is a container as its labels have it.
type record struct {
	status rt.Status // without what only the task knows
	parent string    // its cgroup's parent
	exited bool      // the exit is noted
}

func (r record) cgroup() string { return path.Join(r.parent, r.status.ID) }

// parseRecord reads labels. Pure.
func parseRecord(id string, labels map[string]string, created time.Time) record {
	attempt, _ := strconv.Atoi(labels[labelAttempt])
	stopSignal, _ := strconv.Atoi(labels[labelStopSignal])
	round, _ := strconv.Atoi(labels[labelRound])
	rec := record{
		parent: labels[labelCgroupParent],
		status: rt.Status{
			ID:   id,
			Pod:  rt.PodRef{UID: labels[labelPodUID], Namespace: labels[labelPodNamespace], Name: labels[labelPodName]},
			Name: labels[labelName], Attempt: attempt, SpecHash: labels[labelSpecHash], Note: labels[labelNote],
			Image: labels[labelImage], ImageID: labels[labelImageID],
			Round: round, StopSignal: stopSignal,
			CreatedAt: created, StartedAt: parseTime(labels[labelStarted]), State: rt.Created,
		},
	}
	if finished, noted := labels[labelFinished]; noted {
		rec.exited = true
		rec.status.State = rt.Exited
		rec.status.FinishedAt = parseTime(finished)
		rec.status.ExitCode, _ = strconv.Atoi(labels[labelExitCode])
		rec.status.OOMKilled = labels[labelOOM] == "true"
	}
	return rec
}

func exitLabels(s rt.Status) map[string]string {
	return map[string]string{
		labelFinished: s.FinishedAt.UTC().Format(time.RFC3339Nano),
		labelExitCode: strconv.Itoa(s.ExitCode),
		labelOOM:      strconv.FormatBool(s.OOMKilled),
	}
}

// Note replaces what the agent keeps with a container.
func (r *Runtime) Note(ctx context.Context, id, note string) error {
	changed := containers.Container{ID: id, Labels: map[string]string{labelNote: note}}
	record, err := r.client.ContainerService().Update(r.scope(ctx), changed, "labels."+labelNote)
	if err != nil {
		return wrap("note on "+id, err)
	}
	r.remember(id, record.Labels, record.CreatedAt)
	return nil
}

func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// remember keeps what the labels said, and returns it.
func (r *Runtime) remember(id string, labels map[string]string, created time.Time) record {
	rec := parseRecord(id, labels, created)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[id] = rec
	return rec
}

func (r *Runtime) recall(id string) (record, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, ok := r.known[id]
	return rec, ok
}

func (r *Runtime) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, id)
}
