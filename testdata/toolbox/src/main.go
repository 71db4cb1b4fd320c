// Command toolbox is what tests of kubectl run in pods. It goes by the name
// that it is called by, or by its first argument:
//
//	serve PORT         answer HTTP with the pod's name until told to end
//	wait               say so, and wait until told to end
//	stay               wait, and not end when told to
//	count N [PAUSE]    print N numbered lines, with a pause after each, and wait
//	repeat             print each line of standard input after "got", and wait
//	exit CODE          print out on one stream and err on the other, and exit
//	cat [FILE…]        print files or standard input
//	env                print the environment
//	ps                 print the processes that it sees
//	terminal           tell the size of the terminal, again when it changes, and the
//	                   processes at a line "ps", until a line "quit"
//	api METHOD PATH    ask the API with the pod's own service account
//	tar, test          as much of them as kubectl cp needs
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var tools = map[string]func([]string) error{
	"serve": serve, "wait": wait, "stay": stay, "count": count, "repeat": repeat, "exit": exit, "cat": cat, "env": env,
	"ps": ps, "terminal": terminal, "api": api, "tar": tarTool, "test": test,
}

func main() {
	args := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	if tools[args[0]] == nil {
		args = args[1:]
	}
	if len(args) == 0 || tools[args[0]] == nil {
		fmt.Fprintln(os.Stderr, "toolbox: no such tool")
		os.Exit(127)
	}
	if err := tools[args[0]](args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", args[0], err)
		os.Exit(1)
	}
}

// told is closed when the container is to end.
func told() <-chan os.Signal {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	return stop
}

func wait([]string) error {
	stop := told()
	fmt.Println("waiting")
	<-stop
	return nil
}

func stay([]string) error {
	signal.Ignore(syscall.SIGTERM)
	fmt.Println("staying")
	for {
		time.Sleep(time.Hour)
	}
}

func serve(args []string) error {
	stop := told()
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	http.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Printf("%s asked by %s\n", r.URL.Path, r.UserAgent())
		fmt.Fprintln(w, host)
	})
	failed := make(chan error, 1)
	go func() { failed <- http.ListenAndServe(":"+args[0], nil) }()
	fmt.Println("serving", args[0])
	select {
	case err := <-failed:
		return err
	case <-stop:
		return nil
	}
}

func count(args []string) error {
	stop := told()
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var pause time.Duration
	if len(args) > 1 {
		if pause, err = time.ParseDuration(args[1]); err != nil {
			return err
		}
	}
	for i := range n {
		fmt.Println("line", i+1)
		select {
		case <-stop:
			return nil
		case <-time.After(pause):
		}
	}
	<-stop
	return nil
}

func repeat([]string) error {
	stop := told()
	lines := make(chan string)
	go func() {
		for scan := bufio.NewScanner(os.Stdin); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	fmt.Println("repeating")
	for {
		select {
		case line := <-lines:
			fmt.Println("got", line)
		case <-stop:
			return nil
		}
	}
}

func exit(args []string) error {
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	fmt.Println("out")
	fmt.Fprintln(os.Stderr, "err")
	os.Exit(code)
	return nil
}

func cat(args []string) error {
	if len(args) == 0 {
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	}
	for _, name := range args {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := os.Stdout.Write(data); err != nil {
			return err
		}
	}
	return nil
}

func env([]string) error {
	fmt.Println(strings.Join(os.Environ(), "\n"))
	return nil
}

// test knows -d only.
func test(args []string) error {
	if len(args) != 2 || args[0] != "-d" {
		return errors.New("want -d DIR")
	}
	if info, err := os.Stat(args[1]); err != nil || !info.IsDir() {
		os.Exit(1)
	}
	return nil
}
