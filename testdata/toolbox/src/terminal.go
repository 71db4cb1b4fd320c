package main

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminal tells the size of the terminal that it runs at.
func terminal([]string) error {
	changed := make(chan os.Signal, 8)
	signal.Notify(changed, syscall.SIGWINCH)
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(os.Stdin); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	for {
		size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err != nil {
			fmt.Println("not a terminal")
			return err
		}
		fmt.Printf("%d columns, %d rows\n", size.Col, size.Row)
		select {
		case <-changed:
		case line, ok := <-lines:
			if !ok || line == "quit" {
				return nil
			}
			fmt.Printf("got %q\n", line)
			if line == "ps" {
				if err := ps(nil); err != nil {
					return err
				}
			}
		}
	}
}
