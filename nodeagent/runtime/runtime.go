// Package runtime says what the node agent asks of a container runtime, in the
// agent's own words. runtime/containerd does it on containerd; runtime/fake
// does it in memory, for tests of what stands above.
//
// The agent is the only caller. Nothing here knows of etcd or of Kubernetes'
// API types.
package runtime

import (
	"context"
	"errors"
	"io"
	"time"
)

// Errors that a Runtime wraps, for errors.Is.
var (
	ErrNotFound      = errors.New("not found")
	ErrImageNotFound = errors.New("image not present")       // not in the local store, and pulling was not asked for
	ErrImagePull     = errors.New("image cannot be pulled")  // the registry refused, or was not reached
	ErrInvalidImage  = errors.New("invalid image reference") // the reference does not parse
	ErrImageInUse    = errors.New("image in use")            // a start or a pull under way holds it
	ErrNoSpace       = errors.New("no space left")           // on the file system of images and containers
	ErrStart         = errors.New("container did not start") // the OCI runtime refused: a missing command, a bad mount
	ErrConfig        = errors.New("container configuration") // what was asked for cannot be on this machine, or not with this image
	ErrUnavailable   = errors.New("runtime does not answer") // says nothing about any container
)

// Runtime runs containers on one machine. All methods are safe to call at
// once; each returns when its work is done or its context ends.
type Runtime interface {
	// Image returns a local image by reference; ErrImageNotFound if it is not
	// in the store.
	Image(ctx context.Context, ref string) (Image, error)
	// Pull brings an image from its registry and unpacks it; what is present is
	// not fetched again, and what arrived before an error that may pass is kept
	// for the next call. A second call for the same reference and credentials
	// while one is under way joins it. The error wraps ErrImagePull, and
	// ErrNoSpace too where that is the cause.
	Pull(ctx context.Context, ref string, options PullOptions) (Image, error)
	// Import loads an OCI or docker archive (plain or gzip) and unpacks its
	// images. It returns their references.
	Import(ctx context.Context, path string) ([]string, error)
	// Images lists the local images, each once, with all of its references.
	Images(ctx context.Context) ([]StoredImage, error)
	// RemoveImage removes an image by its ID under all of its references;
	// ErrImageInUse when a start or a pull under way holds it, nil if it is gone.
	RemoveImage(ctx context.Context, id string) error
	// Collect frees what nothing refers to any more: content, snapshots, and
	// what interrupted pulls left. It returns when that is done.
	Collect(ctx context.Context) error
	ImageMounter

	// Start creates the container and starts it. On error nothing of it is
	// left. The same ID again is an error.
	Start(ctx context.Context, spec Container) error
	// StartInit starts the holder of a pod's process namespace (PodInit) and
	// returns its process ID.
	StartInit(ctx context.Context, spec Container) (pid int, err error)
	// Note replaces what the caller keeps with a container for its successor
	// (Container.Note). It outlives the container's exit; ErrNotFound when the
	// container is gone.
	Note(ctx context.Context, id, note string) error
	// Signal sends a signal to the container's first process; ErrNotFound when
	// it does not run.
	Signal(ctx context.Context, id string, signal int) error
	// Kill ends every process of the container with SIGKILL, and returns when
	// it is reported as exited. Nil if it had.
	Kill(ctx context.Context, id string) error
	// Remove deletes an exited (or never started) container with its snapshot;
	// one that runs is killed first. Nil if it is gone.
	Remove(ctx context.Context, id string) error
	// Exec runs a command in a running container and returns its exit code and
	// the first maxOutput bytes of stdout and stderr together. When ctx ends,
	// the command and its children are killed.
	Exec(ctx context.Context, id string, command []string, maxOutput int) (exitCode int, output []byte, err error)
	// Stream runs a command in a running container with its streams connected
	// to the caller's, and returns its exit code when it has ended and its
	// output was written. When ctx ends, the command and its children are
	// killed. A read of Stdin may outlive the call: the caller ends it.
	Stream(ctx context.Context, id string, command Command) (exitCode int, err error)
	// Stdin opens the standard input of a running container that has one for
	// writing; ErrNotFound if it has none. Closing it leaves the container's
	// input open, so that it can be opened again.
	Stdin(ctx context.Context, id string) (io.WriteCloser, error)
	// CloseStdin ends a container's standard input: it reads the end of file.
	CloseStdin(ctx context.Context, id string) error
	// Update gives a pod and containers of it that run other CPU and memory. On
	// error some of it may have been done; a limit of memory below what is used
	// is refused before anything is.
	Update(ctx context.Context, u Update) error
	// Resize sets the size of the terminal of a container that has one.
	Resize(ctx context.Context, id string, size TerminalSize) error

	// Containers lists the containers of this node, running and exited.
	// An error says nothing about any container.
	Containers(ctx context.Context) ([]Status, error)
	// Events sends a hint whenever a container of this node has exited or ran
	// out of memory: look again. The channel is closed when ctx ends or the
	// runtime is lost; the caller then lists and calls again.
	Events(ctx context.Context) (<-chan Event, error)

	// DiskUsage is what a container wrote to its own root file system.
	// ErrNotFound if it has none.
	DiskUsage(ctx context.Context, id string) (DiskUsage, error)
	// ImageDisk is what the images of this node take, and where.
	ImageDisk(ctx context.Context) (path string, usage DiskUsage, err error)

	// Version names the runtime, as in a node's status: "containerd://1.6.20".
	Version(ctx context.Context) (string, error)
	// Cleanup stops and removes all containers, tasks, snapshots and leases of
	// this node, and its images if asked.
	Cleanup(ctx context.Context, images bool) error
}

// Image is an unpacked image in the local store.
type Image struct {
	Ref        string // as asked for, normalised: "docker.io/library/nginx:latest"
	ID         string // digest of the image config: "sha256:…"
	Digest     string // repository digest "name@sha256:…", or ""
	Size       int64  // bytes
	Entrypoint []string
	Cmd        []string
	Env        []string // "NAME=value"
	WorkingDir string
	User       string // as in the image config: "uid[:gid]" or names
	StopSignal int    // that its containers are ended with; 0: SIGTERM
	Access     Access
}

// Access says who may use an image that is present.
type Access struct {
	Anybody bool     // it was loaded from outside, or pulled without credentials
	Keys    []string // of the credentials that pulled it
}

// StoredImage is a local image under all of its references.
type StoredImage struct {
	ID     string // digest of the image config
	Refs   []string
	Size   int64 // bytes of its compressed layers and its config
	Pinned bool  // it was loaded from outside, and could not be pulled again
}

// PullOptions say with what rights an image is pulled, and who wants to know
// how far it is.
type PullOptions struct {
	// Credentials are tried in order until the registry takes one. None: as
	// anybody.
	Credentials []Credential
	// Progress, if set, is called whenever something arrives, from any
	// goroutine but never twice at once. It must not block.
	Progress func(Progress)
}

// Credential opens a registry.
type Credential struct {
	Username, Password string
	// Keys name the credential without giving it away. They are kept with an
	// image that it pulled. Each is a valid label value of at most 63 bytes.
	Keys []string
}

// Progress is how far a pull is.
type Progress struct {
	Queued      bool // it waits for other pulls
	Done, Total int64
}

// Container says how to start one container of a pod.
type Container struct {
	ID       string // unique on the machine: carries the pod's UID
	Pod      PodRef
	Name     string // of the container in the pod
	Attempt  int    // 0 for the first start; the restart count
	Round    int    // kept as a label and returned by Containers, as is SpecHash
	SpecHash string // kept as a label and returned by Containers
	Note     string // likewise, until the method Note replaces it; at most 3,500 bytes
	Image    string // reference of a local image

	Args       []string // the whole command line, resolved
	Env        []string // the whole environment, resolved: "NAME=value"
	WorkingDir string   // empty: the image's, or "/"
	Mounts     []Mount
	Namespaces Namespaces
	Hostname   string
	Sysctls    map[string]string // of its namespaces, by dotted name

	CgroupParent string    // "/evenkeel/<node>/pod<uid>"; the runtime appends the ID
	PodResources Resources // of CgroupParent, as a whole
	Resources    Resources
	Security     Security
	StopSignal   int  // returned by Containers; 0: the image's, or SIGTERM
	Stdin        bool // has a standard input, for Stdin
	TTY          bool // its standard streams are a terminal; all output is on Stdout
	// Regular files that exist, by absolute path. The shim appends the outputs to
	// them, so that they survive the agent. Empty: the output is dropped.
	Stdout, Stderr string
}

// Command is a command to be run in a container. A nil stream is not
// connected; with a TTY all output comes on Stdout.
type Command struct {
	Args           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	Resize         <-chan TerminalSize // of the TTY; may be nil. Read until it is closed or the command ends.
}

// TerminalSize is in characters.
type TerminalSize struct{ Width, Height uint16 }

// DiskUsage is what something takes of a file system.
type DiskUsage struct{ Bytes, Inodes int64 }

// PodRef tells whose container it is.
type PodRef struct{ UID, Namespace, Name string }

// PodInit is the name of the container that holds a pod's process namespace
// where its containers share one. It needs no image, and only ID, Pod, Name,
// Attempt, Namespaces, CgroupParent and PodResources: it runs a program of the
// runtime's own, which adopts and reaps processes and costs a few pages of
// memory. Containers lists it with the others.
const PodInit = "$init"

// Namespaces are paths to pinned namespaces; empty means the host's for Net,
// and a private one for IPC, UTS and PID.
type Namespaces struct {
	Net, IPC, UTS, PID string
	HostIPC, HostPID   bool // the host's
	// User is a pinned user namespace that owns the others; empty means the
	// host's. In it the machine's user and group IDs from FirstUser on are 0 to
	// Users-1. What is mounted from the machine, and the image, keep their own
	// IDs: 0 in the container is 0 on disk.
	User             string
	FirstUser, Users uint32
}

// Mount is a bind mount from the machine into the container.
type Mount struct {
	Source, Destination string
	ReadOnly            bool
	RecursiveReadOnly   bool // and all mounts below it; from kernel 5.12 on
	NoExec              bool // no program of it is run
	Propagation         Propagation
	Mapped              bool // it has the IDs of the container's user namespace already
	KeepLabel           bool // it is not given the container's SELinux label
}

// Propagation says which later mounts below a mount are seen on the other side.
type Propagation string

// Private mounts are seen on neither side. BothWays needs a source that lies in
// a shared mount of the machine.
const (
	Private     Propagation = ""
	FromMachine Propagation = "from-machine"
	BothWays    Propagation = "both-ways"
)

// Resources are cgroup settings. Zero values set nothing.
type Resources struct {
	CPUShares   uint64 // cgroup v1 scale, 2 to 262144
	CPUQuota    int64  // µs of CPU per period
	CPUPeriod   uint64 // µs
	MemoryLimit int64  // bytes; swap is limited to the same
	PIDs        int64  // processes and threads
	OOMScoreAdj int    // -1000 to 1000; one the kernel refuses is left out
}

// Update says what CPU and memory a pod and its containers have from now on.
// What is zero stays as it is, as does all else of Resources.
type Update struct {
	CgroupParent string // of the pod
	Pod          Resources
	Containers   []ContainerUpdate
}

// ContainerUpdate is of a container that runs. One that is gone is left out.
type ContainerUpdate struct {
	ID, Name  string
	Resources Resources
}

// Security narrows or widens what a container may do.
type Security struct {
	Privileged            bool
	ReadOnlyRootfs        bool
	NoNewPrivileges       bool
	RunAsUser, RunAsGroup *int64 // nil: the image's user
	RunAsNonRoot          bool   // refuse to start as uid 0 (ErrConfig, with the reason)
	SupplementalGroups    []int64
	AddCapabilities       []string // "NET_ADMIN", or "ALL"
	DropCapabilities      []string
	StrictGroups          bool // without the groups that the image gives the user
	UnmaskedProc          bool
	Seccomp               Seccomp
	AppArmor              AppArmor
	SELinux               *SELinux // nil: not labelled
}

// AppArmor says which profile confines a container on a machine that has
// AppArmor: the runtime's own, none, or one that is loaded, by its name.
type AppArmor struct {
	Unconfined bool
	Required   bool   // ErrConfig on a machine without AppArmor
	Profile    string // implies Required
}

// SELinux are the parts of a container's label on a machine that has SELinux.
// An empty one is what the machine's policy gives containers; the level is the
// pod's own then.
type SELinux struct{ User, Role, Type, Level string }

// Seccomp says which calls of the kernel are allowed: those of the runtime's
// own profile, all, or those of a profile in OCI's JSON, by absolute path.
type Seccomp struct {
	Unconfined bool
	Profile    string
}

// State is where a container is in its life.
type State string

// The states. Unknown is a container whose task cannot be read right now.
const (
	Created State = "created"
	Running State = "running"
	Exited  State = "exited"
	Unknown State = "unknown"
)

// Status is a container as the runtime has it.
type Status struct {
	ID         string
	Pod        PodRef
	Name       string
	Attempt    int
	Round      int
	SpecHash   string
	Note       string
	Image      string // reference it was started from
	ImageID    string
	State      State
	PID        int // while running
	ExitCode   int
	OOMKilled  bool
	StopSignal int // that its pod or image asks to be ended with; 0: SIGTERM
	CreatedAt  time.Time
	StartedAt  time.Time
	FinishedAt time.Time
}

// Event is a hint that a container changed.
type Event struct {
	ContainerID string
	PodUID      string // may be empty
	Exited      bool
	OOM         bool
}
