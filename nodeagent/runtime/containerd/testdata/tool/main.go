// Command tool is what the tests of package containerd run in containers.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	switch os.Args[1] {
	case "sleep": // until told to end
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		fmt.Println("sleeping") // and from now on a signal is heard
		if len(os.Args) > 2 {
			_ = os.WriteFile(os.Args[2], nil, 0o644)
		}
		<-stop
		os.Exit(3)
	case "exit":
		fmt.Println("out")
		fmt.Fprintln(os.Stderr, "err")
		code, _ := strconv.Atoi(os.Args[2])
		os.Exit(code)
	case "eat": // memory until killed
		var eaten [][]byte
		for {
			chunk := make([]byte, 1<<20)
			for i := range chunk {
				chunk[i] = byte(i)
			}
			eaten = append(eaten, chunk)
			if len(eaten)%64 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	case "family": // a child and a grandchild in a session of its own, then wait
		child := exec.Command("/tool", os.Args[2:]...)
		if len(os.Args) > 2 && os.Args[2] == "family" {
			child = exec.Command("/tool", "family")
		}
		if len(os.Args) == 2 {
			child = exec.Command("/tool", "sleep", "/data/sleeps")
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		}
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			panic(err)
		}
		time.Sleep(time.Hour)
	case "orphan": // a child that ends after its parent, to be reaped by an init
		if err := exec.Command("/tool", "exit", "0").Start(); err != nil {
			panic(err)
		}
		if err := exec.Command("/tool", "nap").Start(); err != nil {
			panic(err)
		}
	case "nap":
		time.Sleep(100 * time.Millisecond)
	case "fork": // children until one is refused
		for n := 0; ; n++ {
			if err := exec.Command("/tool", "sleep").Start(); err != nil {
				fmt.Printf("stopped after %d: %v\n", n, err)
				time.Sleep(time.Hour)
			}
		}
	case "ps":
		time.Sleep(300 * time.Millisecond)
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, name := range stats {
			data, _ := os.ReadFile(name)
			fields := strings.Fields(string(data))
			if len(fields) > 2 {
				fmt.Println(fields[0], strings.Trim(fields[1], "()"), fields[2])
			}
		}
	case "mkdir":
		if err := os.Mkdir(os.Args[2], 0o755); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "await": // a file
		for {
			if _, err := os.Stat(os.Args[2]); err == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	case "mount":
		if err := syscall.Mount("tmpfs", os.Args[2], "tmpfs", 0, ""); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "id":
		groups, _ := os.Getgroups()
		cwd, _ := os.Getwd()
		host, _ := os.Hostname()
		fmt.Printf("uid=%d gid=%d groups=%v cwd=%s host=%s env=%s\n", os.Getuid(), os.Getgid(), groups, cwd, host, strings.Join(os.Environ(), ","))
	case "cat":
		for _, name := range os.Args[2:] {
			data, err := os.ReadFile(name)
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			os.Stdout.Write(data)
		}
	case "write":
		if err := os.WriteFile(os.Args[2], []byte(os.Args[3]), 0o644); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "flood":
		for range 10000 {
			fmt.Println(strings.Repeat("x", 100))
		}
	}
}
