package containerd

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// drainTime bounds the wait for output that a command's surviving children
// hold open after it has ended.
const drainTime = 200 * time.Millisecond

// Exec runs a command as the container's own process is run: its user,
// environment, directory and capabilities.
func (r *Runtime) Exec(ctx context.Context, id string, command []string, maxOutput int) (int, []byte, error) {
	out := &limited{max: maxOutput}
	e := &execution{r: r, container: id, command: rt.Command{Args: command, Stdout: out, Stderr: out}, patience: drainTime}
	code, err := e.run(r.scope(ctx))
	return code, out.bytes(), err
}

func (r *Runtime) process(ctx context.Context, id string) (*specs.Process, error) {
	got, err := r.client.ContainerService().Get(ctx, id)
	if err != nil {
		return nil, wrap("exec in "+id, err)
	}
	r.remember(id, got.Labels, got.CreatedAt)
	var spec specs.Spec
	if err := json.Unmarshal(got.Spec.GetValue(), &spec); err != nil {
		return nil, fmt.Errorf("exec in %s: decode spec: %w", id, err)
	}
	if spec.Process == nil {
		return nil, fmt.Errorf("exec in %s: its spec names no process", id)
	}
	return spec.Process, nil
}

// execution is one command running in a container.
type execution struct {
	r         *Runtime
	container string
	command   rt.Command
	patience  time.Duration // with output that has stopped coming although its pipe is open
	id        string
	pid       int
	flow      *flow
}

func (e *execution) run(ctx context.Context) (code int, err error) {
	spec, err := e.spec(ctx)
	if err != nil {
		return 0, err
	}
	e.id, e.flow = "exec-"+randomID(), &flow{}
	began := make(chan struct{}) // the command runs, and its input can be closed
	pipes, err := e.openPipes(ctx, began)
	if err != nil {
		return 0, fmt.Errorf("exec in %s: make pipes: %w", e.container, err)
	}
	defer e.closePipes(ctx, pipes)
	service := e.r.client.TaskService()
	if _, err := service.Exec(ctx, &tasks.ExecProcessRequest{
		ContainerID: e.container, ExecID: e.id, Spec: spec, Terminal: e.command.TTY,
		Stdin: pipes.Config().Stdin, Stdout: pipes.Config().Stdout, Stderr: pipes.Config().Stderr,
	}); err != nil {
		return 0, wrap("exec in "+e.container, err)
	}
	defer e.delete(ctx)
	started, err := service.Start(ctx, &tasks.StartRequest{ContainerID: e.container, ExecID: e.id})
	if err != nil {
		if ctx.Err() != nil {
			e.abandon(ctx)
			return 0, fmt.Errorf("exec in %s: %w", e.container, context.Cause(ctx))
		}
		return 0, fmt.Errorf("exec in %s: %w: %s", e.container, rt.ErrStart, reason(wrap("start", err).Error()))
	}
	e.pid = int(started.Pid)
	close(began)
	defer e.followSize(ctx)()
	return e.wait(ctx)
}

// spec is how the command is run: as the container's own process is.
func (e *execution) spec(ctx context.Context) (*anypb.Any, error) {
	process, err := e.r.process(ctx, e.container)
	if err != nil {
		return nil, err
	}
	process.Args, process.Terminal = e.command.Args, e.command.TTY
	if e.command.TTY && !hasEnv(process.Env, "TERM") {
		process.Env = append(process.Env, defaultTerm)
	}
	encoded, err := typeurl.MarshalAny(process)
	if err != nil {
		return nil, fmt.Errorf("exec in %s: encode process: %w", e.container, err)
	}
	return typeurl.MarshalProto(encoded), nil
}

func (e *execution) wait(ctx context.Context) (int, error) {
	ended, err := e.r.client.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: e.container, ExecID: e.id})
	if err != nil {
		e.abandon(ctx)
		if ctx.Err() != nil {
			return 0, fmt.Errorf("exec in %s: %w", e.container, context.Cause(ctx))
		}
		return 0, wrap("exec in "+e.container, err)
	}
	return int(ended.ExitStatus), nil
}

// abandon kills the command and everything it started, and waits for its end.
func (e *execution) abandon(ctx context.Context) {
	ctx, cancel := e.r.detached(ctx)
	defer cancel()
	service := e.r.client.TaskService()
	if e.pid == 0 { // it was not waited for, and may be starting still
		got, err := service.Get(ctx, &tasks.GetRequest{ContainerID: e.container, ExecID: e.id})
		if err == nil && got.Process != nil {
			e.pid = int(got.Process.Pid)
		}
	}
	rec, _ := e.r.recall(e.container)
	if e.pid > 0 && insideTree(rec.parent) {
		killFamily(func() []int { return e.r.cgroups.processes(rec.cgroup()) }, e.pid)
	}
	_, err := service.Kill(ctx, &tasks.KillRequest{ContainerID: e.container, ExecID: e.id, Signal: uint32(syscall.SIGKILL)})
	if err == nil {
		_, _ = service.Wait(ctx, &tasks.WaitRequest{ContainerID: e.container, ExecID: e.id})
	}
}

func (e *execution) delete(ctx context.Context) {
	ctx, cancel := e.r.detached(ctx)
	defer cancel()
	_, err := e.r.client.TaskService().DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: e.container, ExecID: e.id})
	if err != nil && !gone(err) {
		e.r.log.Debug("ended command not deleted", "container", e.container, "exec", e.id, "error", err)
	}
}

// familyLooks is how often killFamily looks for more, which a command that
// forks without end always has.
const familyLooks = 100

// killFamily ends the process that leads a session with the others of that
// session and its descendants, as far as they are among the candidates. They
// are stopped first, and looked for until there are no more: one that runs may
// have another child at any time.
func killFamily(candidates func() []int, leader int) {
	family := []int{leader}
	_ = syscall.Kill(leader, syscall.SIGSTOP)
	for looks, grown := 0, true; grown && looks < familyLooks; looks++ {
		grown = false
		for _, pid := range candidates() {
			if slices.Contains(family, pid) {
				continue
			}
			parent, session := ancestry(pid)
			if session == leader || slices.Contains(family, parent) {
				_ = syscall.Kill(pid, syscall.SIGSTOP)
				family = append(family, pid)
				grown = true
			}
		}
	}
	for _, pid := range slices.Backward(family) { // the leader last: its end is waited for
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// limited keeps the first bytes written to it and swallows the rest.
type limited struct {
	mu   sync.Mutex
	max  int
	data []byte
}

func (l *limited) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if room := l.max - len(l.data); room > 0 {
		l.data = append(l.data, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

func (l *limited) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.data)
}
