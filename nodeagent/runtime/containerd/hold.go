package containerd

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/mount"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// initPath is where the holder of a process namespace finds its program.
const initPath = "/init"

// StartInit starts the process that holds a pod's process namespace. Its root
// file system is a snapshot of its own with nothing but its program.
func (r *Runtime) StartInit(ctx context.Context, c rt.Container) (pid int, err error) {
	ctx = r.scope(ctx)
	program, ok := initPrograms[goruntime.GOARCH]
	if !ok {
		return 0, fmt.Errorf("start %s: %w: shared process namespaces are not supported on %s", c.ID, rt.ErrConfig, goruntime.GOARCH)
	}
	c.Args, c.Security = []string{initPath}, rt.Security{ReadOnlyRootfs: true, NoNewPrivileges: true, DropCapabilities: []string{"ALL"}}
	if err := validate(c); err != nil {
		return 0, err
	}
	spec := buildSpec(c, image{}, runAs{}, r.machine, nil)
	spec.Mounts = defaultMounts(false)[:2] // what the OCI runtime itself needs
	spec.Linux.Seccomp = nil
	if err := r.create(ctx, c, image{}, spec, func() ([]mount.Mount, error) { return r.initRoot(ctx, c.ID, program) }); err != nil {
		return 0, err
	}
	got, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: c.ID})
	if err != nil {
		return 0, wrap("look at "+c.ID, err)
	}
	return int(got.Process.Pid), nil
}

// initRoot makes the root file system.
func (r *Runtime) initRoot(ctx context.Context, id string, program []byte) ([]mount.Mount, error) {
	mounts, err := r.client.SnapshotService(r.cfg.Snapshotter).Prepare(ctx, id, "")
	if err != nil {
		return nil, wrap("make the root file system of "+id, err)
	}
	err = mount.WithTempMount(ctx, mounts, func(root string) error {
		for _, dir := range []string{"proc", "dev"} {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(root, initPath), program, 0o755)
	})
	if err != nil {
		return nil, fmt.Errorf("make the root file system of %s: %w", id, err)
	}
	return mounts, nil
}

// initPrograms are, by architecture, an ELF executable that ignores SIGCHLD,
// so that the kernel reaps the processes that it adopts, and then sleeps for
// ever. As the first of its namespace it ends by SIGKILL alone, and everything
// in the namespace with it.
var initPrograms = map[string][]byte{
	"amd64": elf(0x3e, append(code(
		0xbf, 0x11, 0x00, 0x00, 0x00, // mov edi, SIGCHLD
		0x48, 0x8d, 0x35, 0x18, 0x00, 0x00, 0x00, // lea rsi, [rip+24]: the action
		0x31, 0xd2, // xor edx, edx
		0x41, 0xba, 0x08, 0x00, 0x00, 0x00, // mov r10d, 8: the size of a signal set
		0xb8, 0x0d, 0x00, 0x00, 0x00, // mov eax, rt_sigaction
		0x0f, 0x05, // syscall
		0xb8, 0x22, 0x00, 0x00, 0x00, // mov eax, pause
		0x0f, 0x05, // syscall
		0xeb, 0xf7, // jmp to pause
	), ignore[:]...)),
	"arm64": elf(0xb7, append(words(
		0xd2800220, // mov x0, SIGCHLD
		0x100001a1, // adr x1, 52: the action
		0xd2800002, // mov x2, 0
		0xd2800103, // mov x3, 8: the size of a signal set
		0xd28010c8, // mov x8, rt_sigaction
		0xd4000001, // svc 0
		0xd2800000, // mov x0, 0
		0xd2800001, // mov x1, 0
		0xd2800002, // mov x2, 0
		0xd2800003, // mov x3, 0
		0xd2800928, // mov x8, ppoll
		0xd4000001, // svc 0
		0x17fffffa, // b to mov x0, 0
		0xd503201f, // nop
	), ignore[:]...)),
}

// ignore is a kernel's sigaction: SIG_IGN, no flags, no restorer, no mask.
var ignore = [32]byte{1}

func code(b ...byte) []byte { return b }

func words(w ...uint32) []byte {
	var out []byte
	for _, word := range w {
		out = binary.LittleEndian.AppendUint32(out, word)
	}
	return out
}

// elf makes an executable of one segment that holds everything.
func elf(machine uint16, text []byte) []byte {
	const base, header, segment = 0x400000, 64, 56
	size := uint64(header + segment + len(text))
	le := binary.LittleEndian
	out := append([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, make([]byte, 9)...) // 64 bits, little-endian
	out = le.AppendUint16(out, 2)                                           // executable
	out = le.AppendUint16(out, machine)
	out = le.AppendUint32(out, 1)
	out = le.AppendUint64(out, base+header+segment) // entry
	out = le.AppendUint64(out, header)              // segments
	out = le.AppendUint64(out, 0)                   // sections
	out = le.AppendUint32(out, 0)
	for _, v := range []uint16{header, segment, 1, 0, 0, 0} {
		out = le.AppendUint16(out, v)
	}
	out = le.AppendUint32(out, 1) // to be loaded
	out = le.AppendUint32(out, 5) // readable and executable
	for _, v := range []uint64{0, base, base, size, size, 0x1000} {
		out = le.AppendUint64(out, v)
	}
	return append(out, text...)
}
