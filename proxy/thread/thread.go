// Package thread runs functions in a network namespace other than the calling
// thread's, on threads that are thrown away. The proxy's backends and their
// tests call it; it never changes the namespace of a thread that lives on.
package thread

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// In runs f in ns and returns its error: on this thread if it is there, as all
// are in a process that was started there, and else on one of its own. Sockets
// that f opens stay in ns; f must not start goroutines that open more.
func In(ns netns.NsHandle, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if here, err := netns.Get(); err == nil {
		same := here.Equal(ns)
		_ = here.Close()
		if same {
			return f()
		}
	}
	return Own(func() error {
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// Own runs f on a thread that ends with it, so that f may change the thread's
// namespaces. The process's first thread cannot end: it would show its
// namespace as the process's, so f never gets it.
func Own(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("function did not return")
		defer func() { done <- err }()
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			err = Own(f) // elsewhere, as this thread is taken
			return
		}
		err = f() // never unlocked: the thread ends here
	}()
	return <-done
}
