package containerd

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// lostExitCode is what a container ended with when nobody saw it end: its
// shim was killed, or the machine went down. As after SIGKILL.
const lostExitCode = 137

// Containers lists the node's containers. One whose exit it sees for the
// first time gets it noted in its labels, so that it outlives the shim.
func (r *Runtime) Containers(ctx context.Context) ([]rt.Status, error) {
	ctx = r.scope(ctx)
	// Tasks first: a container without one had none at an earlier moment than
	// its record was read, so a start in between is seen through r.starting.
	starting := r.startingNow()
	processes, err := r.tasks(ctx)
	if err != nil {
		return nil, err
	}
	records, err := r.client.ContainerService().List(ctx)
	if err != nil {
		return nil, wrap("list containers", err)
	}
	statuses := make([]rt.Status, 0, len(records))
	for _, record := range records {
		rec := r.remember(record.ID, record.Labels, record.CreatedAt)
		process := processes[record.ID]
		if process == nil && !rec.exited && !starting[record.ID] {
			process = r.findTask(ctx, record.ID)
		}
		statuses = append(statuses, r.settle(ctx, rec, process, starting[record.ID]))
	}
	return statuses, nil
}

func (r *Runtime) startingNow() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.starting)
}

func (r *Runtime) tasks(ctx context.Context) (map[string]*task.Process, error) {
	list, err := r.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, wrap("list tasks", err)
	}
	byID := make(map[string]*task.Process, len(list.Tasks))
	for _, t := range list.Tasks {
		id := t.ContainerID
		if id == "" {
			id = t.ID
		}
		byID[id] = t
	}
	return byID, nil
}

// findTask asks for one task that the list left out, which containerd also
// does when a shim is slow to answer. Nil means that there is none.
func (r *Runtime) findTask(ctx context.Context, id string) *task.Process {
	got, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err == nil {
		return got.Process
	}
	if gone(err) {
		return nil
	}
	r.log.Debug("task cannot be read", "container", id, "error", native(err))
	return &task.Process{ContainerID: id, Status: task.Status_UNKNOWN}
}

// settle joins a record with its task, and notes an exit that is news.
func (r *Runtime) settle(ctx context.Context, rec record, process *task.Process, starting bool) rt.Status {
	status := decide(rec, process, starting, time.Now())
	if status.State != rt.Exited || rec.exited {
		return status
	}
	if status.ExitCode != 0 && r.cgroups.oomKills(rec.cgroup()) > 0 {
		status.OOMKilled = true
	}
	r.noteExit(ctx, status)
	return status
}

// decide is a container's state from its record and its task, which is nil
// when there is none. Pure.
func decide(rec record, process *task.Process, starting bool, now time.Time) rt.Status {
	status := rec.status
	switch {
	case rec.exited:
	case process == nil && (starting || status.StartedAt.IsZero()):
		status.State = rt.Created
	case process == nil:
		status.State, status.ExitCode, status.FinishedAt = rt.Exited, lostExitCode, now
	case process.Status == task.Status_STOPPED:
		status.State, status.ExitCode = rt.Exited, int(process.ExitStatus)
		status.FinishedAt = process.ExitedAt.AsTime()
	case process.Status == task.Status_CREATED:
		status.State = rt.Created
	case process.Status == task.Status_RUNNING, process.Status == task.Status_PAUSED, process.Status == task.Status_PAUSING:
		status.State, status.PID = rt.Running, int(process.Pid)
	default:
		status.State = rt.Unknown
	}
	if status.StartedAt.IsZero() && status.State != rt.Created {
		status.StartedAt = status.CreatedAt
	}
	return status
}

// noteExit keeps an exit in the container's labels. It is a convenience for
// later: an error only costs doing it again.
func (r *Runtime) noteExit(ctx context.Context, s rt.Status) {
	labels := exitLabels(s)
	var paths []string
	for key := range maps.Keys(labels) {
		paths = append(paths, "labels."+key)
	}
	slices.Sort(paths)
	updated, err := r.client.ContainerService().Update(ctx, containers.Container{ID: s.ID, Labels: labels}, paths...)
	if err != nil {
		if !gone(err) {
			r.log.Warn("exit not noted", "container", s.ID, "error", native(err))
		}
		return
	}
	r.remember(s.ID, updated.Labels, updated.CreatedAt)
}
