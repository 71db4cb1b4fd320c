// Command build compiles a Go program and writes a container image with it:
//
//	go run ./testdata/images/build -o guestbook.tar ./testdata/guestbook/src evenkeel.io/guestbook:1
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/evenkeel/evenkeel/testdata/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var opts images.Options
	flags := flag.NewFlagSet("build", flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "Example:\n  build -o guestbook.tar ./testdata/guestbook/src evenkeel.io/guestbook:1\n\nUsage: build [flags] PACKAGE-DIR IMAGE\n")
		flags.PrintDefaults()
	}
	out := flags.String("o", "", "the docker archive to write (required)")
	flags.StringVar(&opts.Name, "name", "", "name of the binary in the image (default: the directory's name)")
	flags.StringVar(&opts.User, "user", "", "uid[:gid] that the program runs as (default 65532)")
	ports := flags.String("ports", "", "ports the program listens at, as 8080/tcp,53/udp")
	links := flags.String("links", "", "further names of the binary, as /cat,/tar")
	dirs := flags.String("dirs", "", "empty directories to make, as /data,/cache")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *out == "" || flags.NArg() != 2 {
		flags.Usage()
		return fmt.Errorf("want -o FILE, a package directory and an image name")
	}
	opts.Ports, opts.Dirs, opts.Links = split(*ports), split(*dirs), split(*links)
	return images.BuildWith(ctx, flags.Arg(0), flags.Arg(1), *out, opts)
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
