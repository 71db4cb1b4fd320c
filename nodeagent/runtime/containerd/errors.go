package containerd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/status"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// native turns a gRPC status into containerd's own error, and leaves alone
// what is no status: a second translation would lose its kind.
func native(err error) error {
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return errgrpc.ToNative(err)
	}
	return err
}

// wrap names the operation, and turns containerd's errors into the runtime's.
func wrap(operation string, err error) error {
	if err == nil {
		return nil
	}
	err = native(err)
	switch {
	case errors.Is(err, rt.ErrUnavailable), errors.Is(err, rt.ErrNotFound):
		return fmt.Errorf("%s: %w", operation, err)
	case errdefs.IsUnavailable(err):
		return unavailable(operation, err)
	case errdefs.IsNotFound(err):
		return fmt.Errorf("%s: %w: %w", operation, rt.ErrNotFound, err)
	}
	return fmt.Errorf("%s: %w", operation, err)
}

func unavailable(operation string, err error) error {
	return fmt.Errorf("%s: %w: %w", operation, rt.ErrUnavailable, native(err))
}

// gone reports whether containerd says that the thing does not exist.
func gone(err error) bool {
	return err != nil && errdefs.IsNotFound(native(err))
}

// exists reports whether containerd says that the thing is there already.
func exists(err error) bool {
	return err != nil && errdefs.IsAlreadyExists(native(err))
}

// startError says why a container did not start, in the OCI runtime's own
// words without the chain of programs they came through.
func startError(id string, err error) error {
	err = native(err)
	if errdefs.IsUnavailable(err) {
		return unavailable("start "+id, err)
	}
	said := reason(err.Error())
	return fmt.Errorf("start %s: %w: %s%s", id, rt.ErrStart, startAdvice(said), said)
}

// startAdvice says what to do about a start that the OCI runtime refused, or
// nothing if that is not known.
func startAdvice(said string) string {
	_, program, isProgram := strings.Cut(said, "exec: ")
	switch {
	case strings.Contains(said, "no space left on device"):
		return "free space on the node's disk: "
	case !isProgram:
	case strings.Contains(program, "no such file or directory"), strings.Contains(program, "executable file not found"):
		return "the image has no such program, check the container's command: "
	case strings.Contains(program, "permission denied"):
		return "it is not executable for the container's user: "
	case strings.Contains(program, "exec format error"):
		return "it is no program for this machine's processor, check the image's architecture: "
	}
	return ""
}

func reason(message string) string {
	for _, prefix := range []string{
		"failed to create shim task: ", "failed to create task: ", "OCI runtime create failed: ",
		"runc create failed: ", "OCI runtime start failed: ", "runc start failed: ", "crun create failed: ",
	} {
		if _, rest, found := strings.Cut(message, prefix); found {
			message = rest
		}
	}
	return strings.TrimSuffix(strings.TrimSpace(message), ": unknown")
}
