package containerd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// runAs is who a container's process runs as.
type runAs struct {
	uid, gid uint32
	groups   []uint32
}

// accounts are the users and groups that an image declares in /etc/passwd and
// /etc/group.
type accounts struct {
	users  []passwdEntry
	groups []groupEntry
}

type passwdEntry struct {
	name     string
	uid, gid uint32
}

type groupEntry struct {
	name    string
	gid     uint32
	members []string
}

// accountsOnce reads an image's accounts when they are first wanted.
type accountsOnce struct {
	mu     sync.Mutex
	loaded *accounts
}

// resolve applies a pod's security settings to an image's user, as the
// kubelet and containerd's CRI do: the group is the user's own unless one is
// given, and the groups that list the user are added. Pure.
func (a accounts) resolve(imageUser string, sec rt.Security) (runAs, error) {
	user, group, _ := strings.Cut(imageUser, ":")
	if sec.RunAsUser != nil {
		user, group = strconv.FormatInt(*sec.RunAsUser, 10), ""
	}
	who, name, err := a.user(user)
	if err != nil {
		return runAs{}, err
	}
	switch {
	case sec.RunAsGroup != nil:
		who.gid = uint32(*sec.RunAsGroup)
	case group != "":
		if who.gid, err = a.group(group); err != nil {
			return runAs{}, err
		}
	}
	if sec.RunAsNonRoot && who.uid == 0 {
		return runAs{}, errors.New("runAsNonRoot is set, but the container would run as root: set runAsUser, or give the image a USER")
	}
	if sec.StrictGroups {
		name = ""
	}
	who.groups = a.supplementary(name, who.gid, sec.SupplementalGroups)
	return who, nil
}

// user finds a user by name or number. A number need not be declared.
func (a accounts) user(user string) (runAs, string, error) {
	if user == "" {
		user = "0"
	}
	uid, numeric := parseID(user)
	for _, u := range a.users {
		if u.name == user || numeric && u.uid == uid {
			return runAs{uid: u.uid, gid: u.gid}, u.name, nil
		}
	}
	if !numeric {
		return runAs{}, "", fmt.Errorf("the image has no user %q in /etc/passwd", user)
	}
	return runAs{uid: uid}, "", nil
}

func (a accounts) group(group string) (uint32, error) {
	gid, numeric := parseID(group)
	for _, g := range a.groups {
		if g.name == group {
			return g.gid, nil
		}
	}
	if !numeric {
		return 0, fmt.Errorf("the image has no group %q in /etc/group", group)
	}
	return gid, nil
}

func (a accounts) supplementary(name string, primary uint32, extra []int64) []uint32 {
	groups := []uint32{primary}
	for _, g := range a.groups {
		if name != "" && slices.Contains(g.members, name) {
			groups = append(groups, g.gid)
		}
	}
	for _, gid := range extra {
		groups = append(groups, uint32(gid))
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

func parseID(s string) (uint32, bool) {
	id, err := strconv.ParseUint(s, 10, 32)
	return uint32(id), err == nil
}

// parseAccounts reads the two files' text, leaving out lines that are not
// well formed.
func parseAccounts(passwd, group string) accounts {
	var a accounts
	eachLine(passwd, func(f []string) {
		uid, ok1 := parseID(field(f, 2))
		gid, ok2 := parseID(field(f, 3))
		if ok1 && ok2 {
			a.users = append(a.users, passwdEntry{f[0], uid, gid})
		}
	})
	eachLine(group, func(f []string) {
		if gid, ok := parseID(field(f, 2)); ok {
			members := strings.FieldsFunc(field(f, 3), func(r rune) bool { return r == ',' || r == ' ' })
			a.groups = append(a.groups, groupEntry{f[0], gid, members})
		}
	})
	return a
}

func eachLine(text string, use func(fields []string)) {
	for scan := bufio.NewScanner(strings.NewReader(text)); scan.Scan(); {
		if line := strings.TrimSpace(scan.Text()); line != "" && line[0] != '#' {
			use(strings.Split(line, ":"))
		}
	}
}

func field(f []string, i int) string {
	if i >= len(f) {
		return ""
	}
	return f[i]
}

// identify finds out who a container runs as, reading the image's accounts
// the first time they are wanted.
func (r *Runtime) identify(ctx context.Context, img image, sec rt.Security) (runAs, error) {
	img.accounts.mu.Lock()
	defer img.accounts.mu.Unlock()
	if img.accounts.loaded == nil {
		loaded, err := r.readAccounts(ctx, img)
		if err != nil {
			return runAs{}, err
		}
		img.accounts.loaded = &loaded
	}
	who, err := img.accounts.loaded.resolve(img.config.User, sec)
	if err != nil {
		return runAs{}, fmt.Errorf("%w: %w", rt.ErrConfig, err)
	}
	return who, nil
}

// readAccounts looks into the image's root file system through a short-lived
// view of it, which a lease keeps and lets go should we die here.
func (r *Runtime) readAccounts(ctx context.Context, img image) (accounts, error) {
	ctx, release, err := r.client.WithLease(ctx, leases.WithRandomID(), leases.WithExpiration(leaseTime))
	if err != nil {
		return accounts{}, wrap("lease a view of "+img.record.Name, err)
	}
	defer func() {
		done, cancel := r.detached(ctx)
		defer cancel()
		_ = release(done)
	}()
	key := "accounts-" + randomID()
	snapshotter := r.client.SnapshotService(r.cfg.Snapshotter)
	mounts, err := r.view(ctx, snapshotter, key, img)
	if err != nil {
		return accounts{}, err
	}
	defer func() {
		done, cancel := r.detached(ctx)
		defer cancel()
		_ = snapshotter.Remove(done, key)
	}()
	var found accounts
	err = mount.WithReadonlyTempMount(ctx, mounts, func(root string) error {
		found, err = accountsIn(root)
		return err
	})
	if err != nil {
		return accounts{}, fmt.Errorf("read the users of %s: %w", img.record.Name, err)
	}
	return found, nil
}

func (r *Runtime) view(ctx context.Context, snapshotter snapshots.Snapshotter, key string, img image) ([]mount.Mount, error) {
	mounts, err := snapshotter.View(ctx, key, img.chain)
	if gone(err) {
		if err := r.repack(ctx, img); err != nil {
			return nil, err
		}
		mounts, err = snapshotter.View(ctx, key, img.chain)
	}
	return mounts, wrap("view "+img.record.Name, err)
}

// accountsIn reads the files below a root directory without following a link
// out of it. An image without them has no names.
func accountsIn(dir string) (accounts, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return accounts{}, err
	}
	defer root.Close()
	var text [2]string
	for i, name := range []string{"etc/passwd", "etc/group"} {
		data, err := root.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		text[i] = string(data)
	}
	return parseAccounts(text[0], text[1]), nil
}
