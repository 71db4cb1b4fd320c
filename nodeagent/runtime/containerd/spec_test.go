package containerd

import (
	"archive/tar"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/containerd/containerd/api/types/task"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

func tarDirectory(t *testing.T, dir, out string) {
	t.Helper()
	file, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(file)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

func TestResolveUser(t *testing.T) {
	known := parseAccounts("root:x:0:0::/:\n# comment\nbad line\nkeeper:x:1000:1001::/:\n",
		"root:x:0:root\nkeepers:x:1001:\nlamps:x:1002:keeper,other\nwheel:x:10:root\n")
	for name, test := range map[string]struct {
		user  string
		sec   rt.Security
		want  runAs
		error string
	}{
		"nobody named is root":                  {"", rt.Security{}, runAs{0, 0, []uint32{0, 10}}, ""},
		"by name":                               {"keeper", rt.Security{}, runAs{1000, 1001, []uint32{1001, 1002}}, ""},
		"by number":                             {"1000", rt.Security{}, runAs{1000, 1001, []uint32{1001, 1002}}, ""},
		"unknown number":                        {"65532", rt.Security{}, runAs{65532, 0, []uint32{0}}, ""},
		"with group":                            {"keeper:lamps", rt.Security{}, runAs{1000, 1002, []uint32{1002}}, ""},
		"numbers":                               {"7:8", rt.Security{}, runAs{7, 8, []uint32{8}}, ""},
		"pod overrides":                         {"keeper", rt.Security{RunAsUser: ptr(int64(5)), RunAsGroup: ptr(int64(6)), SupplementalGroups: []int64{9, 6}}, runAs{5, 6, []uint32{6, 9}}, ""},
		"user override drops the image's group": {"7:8", rt.Security{RunAsUser: ptr(int64(5))}, runAs{5, 0, []uint32{0}}, ""},
		"no such user":                          {"ghost", rt.Security{}, runAs{}, `the image has no user "ghost" in /etc/passwd`},
		"no such group":                         {"keeper:ghosts", rt.Security{}, runAs{}, `the image has no group "ghosts" in /etc/group`},
		"root where denied":                     {"", rt.Security{RunAsNonRoot: true}, runAs{}, "runAsNonRoot is set, but the container would run as root: set runAsUser, or give the image a USER"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := known.resolve(test.user, test.sec)
			if message(err) != test.error {
				t.Fatalf("got error %v, want %q", err, test.error)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(runAs{})); diff != "" && err == nil {
				t.Error(diff)
			}
		})
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestDecide(t *testing.T) {
	at := time.Unix(100, 0).UTC()
	now := at.Add(time.Hour)
	started := record{status: rt.Status{State: rt.Created, CreatedAt: at, StartedAt: at.Add(time.Second)}}
	fresh := record{status: rt.Status{State: rt.Created, CreatedAt: at}}
	noted := record{exited: true, status: rt.Status{State: rt.Exited, CreatedAt: at, StartedAt: at, FinishedAt: at, ExitCode: 4}}
	with := func(r record, change func(*rt.Status)) rt.Status { change(&r.status); return r.status }
	for name, test := range map[string]struct {
		rec      record
		process  *task.Process
		starting bool
		want     rt.Status
	}{
		"running": {
			started, &task.Process{Status: task.Status_RUNNING, Pid: 9}, false,
			with(started, func(s *rt.Status) { s.State, s.PID = rt.Running, 9 }),
		},
		"stopped": {
			started, &task.Process{Status: task.Status_STOPPED, ExitStatus: 2, ExitedAt: timestamppb.New(at.Add(2 * time.Second))}, false,
			with(started, func(s *rt.Status) { s.State, s.ExitCode, s.FinishedAt = rt.Exited, 2, at.Add(2*time.Second) }),
		},
		"task gone after a start": {
			started, nil, false,
			with(started, func(s *rt.Status) { s.State, s.ExitCode, s.FinishedAt = rt.Exited, 137, now }),
		},
		"task not there yet": {fresh, nil, true, fresh.status},
		"never started":      {fresh, nil, false, fresh.status},
		"task made":          {fresh, &task.Process{Status: task.Status_CREATED}, false, fresh.status},
		"start not noted": {
			fresh, &task.Process{Status: task.Status_RUNNING, Pid: 9}, false,
			with(fresh, func(s *rt.Status) { s.State, s.PID, s.StartedAt = rt.Running, 9, at }),
		},
		"shim does not answer": {
			started, &task.Process{Status: task.Status_UNKNOWN}, false,
			with(started, func(s *rt.Status) { s.State = rt.Unknown }),
		},
		"exit noted, shim gone": {noted, nil, false, noted.status},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, decide(test.rec, test.process, test.starting, now)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCapabilities(t *testing.T) {
	all := []string{"CAP_CHOWN", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"}
	for name, test := range map[string]struct {
		sec  rt.Security
		want []string
	}{
		"as usual":       {rt.Security{}, defaultCapabilities()},
		"privileged":     {rt.Security{Privileged: true}, all},
		"add all":        {rt.Security{AddCapabilities: []string{"ALL"}, DropCapabilities: []string{"NET_ADMIN"}}, []string{"CAP_CHOWN", "CAP_SYS_ADMIN"}},
		"drop all, add":  {rt.Security{AddCapabilities: []string{"net_bind_service"}, DropCapabilities: []string{"all"}}, []string{"CAP_NET_BIND_SERVICE"}},
		"prefix allowed": {rt.Security{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"CAP_CHOWN"}}, []string{"CAP_CHOWN"}},
	} {
		if diff := cmp.Diff(test.want, capabilityList(test.sec, all)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestMounts(t *testing.T) {
	got := buildMounts([]rt.Mount{
		{Source: "/a", Destination: "/data/deep"},
		{Source: "/b", Destination: "/data", ReadOnly: true},
		{Source: "/c", Destination: "/dev/shm/"},
	}, false)
	var order []string
	for _, m := range got {
		order = append(order, m.Destination+"="+m.Source)
	}
	want := []string{"/proc=proc", "/dev=tmpfs", "/dev/pts=devpts", "/dev/mqueue=mqueue", "/sys=sysfs", "/sys/fs/cgroup=cgroup", "/data=/b", "/data/deep=/a", "/dev/shm=/c"}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Error(diff)
	}
	if !slices.Contains(got[6].Options, "ro") || !slices.Contains(got[7].Options, "rw") {
		t.Errorf("access is wrong: %v, %v", got[6].Options, got[7].Options)
	}
}

func TestOOMScoreIsClamped(t *testing.T) {
	c := rt.Container{ID: "a", CgroupParent: "/p", Resources: rt.Resources{OOMScoreAdj: -997}}
	spec := buildSpec(c, image{}, runAs{}, machine{oomFloor: -500}, nil)
	if got := *spec.Process.OOMScoreAdj; got != -500 {
		t.Errorf("got %d", got)
	}
}

func TestReason(t *testing.T) {
	for in, want := range map[string]string{
		"failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"x\": not found: unknown": "unable to start container process: exec: \"x\": not found",
		"plain": "plain",
	} {
		if got := reason(in); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNormalize(t *testing.T) {
	for in, want := range map[string]string{
		"nginx": "docker.io/library/nginx:latest", "a/b:1": "docker.io/a/b:1", "localhost:5000/x": "localhost:5000/x:latest",
		"evenkeel.io/x:1@sha256:" + digest0: "evenkeel.io/x@sha256:" + digest0, "UPPER": "", "": "",
	} {
		got, err := normalize(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", in, got, err, want)
		}
	}
}

const digest0 = "0000000000000000000000000000000000000000000000000000000000000000"
