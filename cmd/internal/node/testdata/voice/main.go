// Command voice is what the tests of package node run in containers.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	switch os.Args[1] {
	case "echo": // what comes, on both outputs, until it ends
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			fmt.Println("heard " + in.Text())
			fmt.Fprintln(os.Stderr, "noted "+in.Text())
		}
		fmt.Println("silence")
		os.Exit(4)
	case "cat":
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "exit":
		code, _ := strconv.Atoi(os.Args[2])
		os.Exit(code)
	case "sizes": // of the terminal, whenever it changes, until it is 99 wide
		changed := make(chan os.Signal, 1)
		signal.Notify(changed, syscall.SIGWINCH)
		fmt.Println("terminal", isTerminal(), os.Getenv("TERM"))
		for columns, rows := size(); ; columns, rows = size() {
			fmt.Printf("%dx%d\n", columns, rows)
			if columns == 99 {
				return
			}
			<-changed
		}
	case "flood": // numbered lines at about so many MB/s, for some seconds
		rate, _ := strconv.Atoi(os.Args[2])
		seconds, _ := strconv.Atoi(os.Args[3])
		flood(rate*1_000_000, time.Duration(seconds)*time.Second)
	case "serve":
		serve(os.Args[2])
	case "burn": // a CPU, with 20 MB of memory and 3 MB of files
		memory := []byte(strings.Repeat("x", 20<<20))
		if err := os.WriteFile("/data/file", memory[:3<<20], 0o644); err != nil {
			fmt.Println(err)
		}
		fmt.Println("burning")
		for i := 0; ; i++ {
			memory[i%len(memory)]++
		}
	}
}

// flood writes lines as "N ===" whose length depends on N.
func flood(rate int, during time.Duration) {
	const each = 5 * time.Millisecond
	filler := strings.Repeat("=", 1000)
	out := bufio.NewWriterSize(os.Stdout, 32<<10)
	line, n := make([]byte, 0, 1024), 0
	ticker := time.NewTicker(each)
	for range during / each {
		<-ticker.C
		for size := 0; size < rate/200; n++ {
			line = strconv.AppendInt(line[:0], int64(n), 10)
			line = append(append(append(line, ' '), filler[:n%1001]...), '\n')
			size += len(line)
			_, _ = out.Write(line)
		}
	}
	_ = out.Flush()
	fmt.Println("total", n)
}

func serve(address string) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	fmt.Println("serving")
	for {
		conn, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer conn.Close()
			text, _ := io.ReadAll(conn)
			fmt.Fprintf(conn, "got %s", text)
		}()
	}
}

type winsize struct{ rows, columns, x, y uint16 }

func ioctlSize(w *winsize) bool {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, 1, syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(w)))
	return errno == 0
}

func isTerminal() bool { return ioctlSize(&winsize{}) }

func size() (columns, rows uint16) {
	var w winsize
	ioctlSize(&w)
	return w.columns, w.rows
}
