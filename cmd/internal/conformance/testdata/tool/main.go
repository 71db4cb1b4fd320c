// Command tool is what the conformance tests run in containers.
package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	code := 0
	for _, command := range split(os.Args[1:]) {
		if err := run(command[0], command[1:]); err != nil {
			fmt.Println("error:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// split cuts a command line at "--".
func split(args []string) [][]string {
	var out [][]string
	for len(args) > 0 {
		i := slices.Index(args, "--")
		if i < 0 {
			return append(out, args)
		}
		out, args = append(out, args[:i]), args[i+1:]
	}
	return out
}

func run(name string, args []string) error {
	switch name {
	case "sleep": // until told to end; then note it, if asked for, and that it will
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		if len(args) > 2 {
			if err := add(args[2], "sleeps"); err != nil {
				return err
			}
		}
		<-stop
		if len(args) > 1 {
			return add(args[0], args[1])
		}
	case "catch": // the first signal of some, and note it
		caught := make(chan os.Signal, 1)
		signal.Notify(caught, syscall.SIGTERM, syscall.SIGUSR1)
		fmt.Println("listening")
		return add(args[0], (<-caught).String())
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("stubborn") // from now on
		time.Sleep(time.Hour)
	case "exit":
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	case "say":
		fmt.Println(strings.Join(args, " "))
	case "env":
		env := os.Environ()
		slices.Sort(env)
		fmt.Println(strings.Join(env, "\n"))
	case "hostname":
		host, err := os.Hostname()
		fmt.Println("hostname", host)
		return err
	case "id":
		groups, _ := os.Getgroups()
		slices.Sort(groups)
		fmt.Printf("uid=%d gid=%d groups=%v\n", os.Getuid(), os.Getgid(), groups)
	case "cat":
		for _, file := range args {
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			fmt.Printf("%s: %s\n", file, data)
		}
	case "stat":
		for _, file := range args {
			if err := stat(file); err != nil {
				return err
			}
		}
	case "add":
		return add(args[0], args[1])
	case "fill": // a file with some MiB of lines
		file, err := os.OpenFile(args[0], os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		size, _ := strconv.Atoi(args[1])
		_, err = file.WriteString(strings.Repeat(strings.Repeat("x", 63)+"\n", size<<14))
		return errors.Join(err, file.Close())
	case "once": // ends with a code the first time
		if _, err := os.Stat(args[0]); err == nil {
			return nil
		}
		_ = add(args[0], "was here")
		code, _ := strconv.Atoi(args[1])
		os.Exit(code)
	case "await":
		for {
			if data, err := os.ReadFile(args[0]); err == nil && strings.Contains(string(data), args[1]) {
				return nil
			}
			time.Sleep(20 * time.Millisecond)
		}
	case "has":
		_, err := os.Stat(args[0])
		return err
	case "mkdir":
		return os.Mkdir(args[0], 0o755)
	case "nest": // a /proc for a container within this one
		inner := exec.Command("/proc/self/exe", "proc", args[0])
		inner.Stdout, inner.SysProcAttr = os.Stdout, nested
		return inner.Run()
	case "proc":
		return syscall.Mount("proc", args[0], "proc", 0, "")
	case "run":
		return exec.Command(args[0], args[1:]...).Run()
	case "ps":
		stats, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range stats {
			data, _ := os.ReadFile(file)
			fmt.Println("process", strings.ReplaceAll(string(data), "\x00", " "))
		}
	case "eat":
		var eaten [][]byte
		for {
			eaten = append(eaten, make([]byte, 1<<20))
			for i := range eaten[len(eaten)-1] {
				eaten[len(eaten)-1][i] = 1
			}
		}
	case "fork": // children until one is refused
		for n := 0; ; n++ {
			if err := exec.Command("/tool", "sleep").Start(); err != nil {
				fmt.Printf("stopped after %d: %v\n", n, err)
				time.Sleep(time.Hour)
			}
		}
	case "flood": // numbered lines without end
		out := bufio.NewWriterSize(os.Stdout, 1<<16)
		for n := 0; ; n++ {
			fmt.Fprintf(out, "line %d of a flood of lines that somebody forgot to turn off\n", n)
		}
	case "talk": // a numbered line each millisecond
		for n := 0; ; n++ {
			fmt.Printf("line %d %s\n", n, strings.Repeat("x", 100))
			time.Sleep(time.Millisecond)
		}
	case "refuse": // to end, but say that it was told to
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		go func() {
			for range stop {
				fmt.Println("told to end")
			}
		}()
	case "link":
		return os.Symlink(args[0], args[1])
	case "serve-tls":
		server := httptest.NewUnstartedServer(http.NotFoundHandler()) // has a certificate
		server.StartTLS()
		defer server.Close()
		listener, err := tls.Listen("tcp", ":"+args[0], server.TLS)
		if err != nil {
			return err
		}
		return http.Serve(listener, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	case "serve":
		return serve(args[0], args[1:]...)
	}
	return nil
}

func stat(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	s := info.Sys().(*syscall.Stat_t)
	fmt.Printf("%s: %v %d:%d\n", file, info.Mode(), s.Uid, s.Gid)
	return nil
}

func add(file, text string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.WriteString(f, text+"\n")
	return err
}

// nested makes a user namespace and what takes another /proc.
var nested = &syscall.SysProcAttr{
	Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
	UidMappings: []syscall.SysProcIDMap{{Size: 1}}, GidMappings: []syscall.SysProcIDMap{{Size: 1}},
}

// serve answers HTTP at a port, with what headers say, and gRPC's health check.
// It notes what it is asked in a file, if it has one.
func serve(port string, notes ...string) error {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		for _, file := range notes {
			_ = add(file, fmt.Sprintf("%s %s %s", r.URL.Path, r.Header.Get("Lamp"), r.UserAgent()))
		}
		if r.Header.Get("Lamp") != "lit" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/grpc.health.v1.Health/Check", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write([]byte{0, 0, 0, 0, 2, 8, 1})
		w.Header().Set("Grpc-Status", "0")
	})
	server := &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	return server.Serve(listener)
}
