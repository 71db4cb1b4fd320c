package network

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inHost runs f on a thread that is in the node's network namespace, which is
// where the kernel looks when a path under /proc/sys/net is opened.
func (n *Network) inHost(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.host); err != nil {
			return fmt.Errorf("enter the node's network namespace: %w", err)
		}
		return f()
	})
}

// onThread runs f on a thread that ends with it, so that f may change the
// thread's namespaces. The process's first thread cannot end: it would keep
// the namespaces alive and show them as the process's, so f never gets it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("function did not return")
		defer func() { done <- err }()
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			err = onThread(f) // elsewhere, as this thread is taken
			return
		}
		err = f() // never unlocked: the thread ends here
	}()
	return <-done
}

// setSysctl writes a value under /proc/sys/net unless it is there.
func setSysctl(name, value string) error {
	path := "/proc/sys/net/" + name
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read sysctl %s: %w", name, err)
	}
	if string(bytes.TrimSpace(old)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("write sysctl %s: %w", name, err)
	}
	return nil
}

func (n *Network) enableForwarding() error {
	return n.inHost(func() error { return setSysctl("ipv4/ip_forward", "1") })
}

// setLinkSysctls lets a pod send from its own address only, and lets the node
// reach it from 127.0.0.1 (the rules drop what a pod sends there itself).
func (n *Network) setLinkSysctls(link string) error {
	return n.inHost(func() error {
		for _, s := range [][2]string{{"rp_filter", "1"}, {"route_localnet", "1"}} {
			if err := setSysctl("ipv4/conf/"+link+"/"+s[0], s[1]); err != nil {
				return err
			}
		}
		return nil
	})
}
