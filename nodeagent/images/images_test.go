package images

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

func TestDecide(t *testing.T) {
	const always, ifNot, never = corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever
	for _, tc := range []struct {
		policy                  corev1.PullPolicy
		present, allowed, fresh bool
		want                    Answer
	}{
		{always, false, false, false, Pull},
		{always, true, true, false, Pull}, // its digest is looked up
		{always, true, true, true, Use},
		{always, false, false, true, Pull}, // pulled and gone again
		{ifNot, false, false, false, Pull},
		{ifNot, true, true, false, Use},
		{ifNot, true, false, false, Pull}, // the registry says whether the pod may have it
		{ifNot, true, false, true, Pull},
		{never, false, false, false, Refuse},
		{never, true, true, false, Use},
		{never, true, false, false, Refuse},
	} {
		if got := Decide(Question{tc.policy, tc.present, tc.allowed, tc.fresh}); got != tc.want {
			t.Errorf("%s present=%v allowed=%v fresh=%v: %s, want %s", tc.policy, tc.present, tc.allowed, tc.fresh, got, tc.want)
		}
	}
}

func secret(name string, kind corev1.SecretType, key, data string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "u-" + "x"}, Type: kind, Data: map[string][]byte{key: []byte(data)}}
}

func configJSON(name, data string) *corev1.Secret {
	return secret(name, corev1.SecretTypeDockerConfigJson, corev1.DockerConfigJsonKey, data)
}

func TestCredentials(t *testing.T) {
	keeper := base64.StdEncoding.EncodeToString([]byte("keeper:li:ght"))
	secrets := []*corev1.Secret{
		configJSON("json", `{"auths": {
			"reg.example": {"username": "host", "password": "p"},
			"reg.example/team": {"auth": "`+keeper+`"},
			"https://reg.example:5000/v2/": {"auth": "`+strings.TrimRight(keeper, "=")+`"},
			"*.wild.example": {"username": "wild", "password": "p"},
			"https://index.docker.io/v1/": {"username": "hub", "password": "p"}}}`),
		secret("old", corev1.SecretTypeDockercfg, corev1.DockerConfigKey, `{"reg.example": {"username": "old", "password": "p"}}`),
	}
	for _, tc := range []struct {
		image string
		want  []string // user names
	}{
		{"reg.example/team/web:1", []string{"keeper", "host", "old"}},
		{"reg.example/other@sha256:00", []string{"host", "old"}},
		{"reg.example:5000/web", []string{"keeper"}},
		{"reg.example:5001/web", nil},
		{"a.wild.example/web:1", []string{"wild"}},
		{"a.b.wild.example/web:1", nil},
		{"nginx", []string{"hub"}},
		{"team/web:2", []string{"hub"}},
		{"docker.io/library/nginx:1", []string{"hub"}},
		{"elsewhere.example/web", nil},
	} {
		got, err := Credentials(tc.image, secrets)
		if err != nil {
			t.Fatal(err)
		}
		var users []string
		for _, c := range got {
			users = append(users, c.Username)
		}
		if diff := cmp.Diff(tc.want, users); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.image, diff)
		}
	}
	got, _ := Credentials("reg.example/team/web", secrets)
	if got[0].Password != "li:ght" {
		t.Errorf("password is %q", got[0].Password)
	}
}

// A secret that cannot be read is named, without what is in it, and the others
// are used.
func TestCredentialsOfBrokenSecrets(t *testing.T) {
	got, err := Credentials("reg.example/web", []*corev1.Secret{
		configJSON("torn", `{"auths": {"reg.example": {"username": "s3cret`),
		configJSON("odd", `{"auths": {"reg.example": {"auth": "czNjcmV0"}}}`),
		secret("none", corev1.SecretTypeDockercfg, "x", ""),
		secret("opaque", corev1.SecretTypeOpaque, "x", "s3cret"),
		configJSON("good", `{"auths": {"reg.example": {"username": "u", "password": "p"}}}`),
	})
	if diff := cmp.Diff([]Credential{{Username: "u", Password: "p", Secret: "shop/good/u-x"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, want := range []string{"shop/torn", "shop/odd", "shop/none", "shop/opaque"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named: %v", want, err)
		}
	}
	if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "czNjcmV0")) {
		t.Errorf("secret told: %v", err)
	}
}

func TestAllowed(t *testing.T) {
	mine := Credential{Username: "u", Password: "p", Secret: "ns/name/1"}
	rotated := Credential{Username: "u", Password: "new", Secret: "ns/name/1"}
	copied := Credential{Username: "u", Password: "p", Secret: "other/copy/2"}
	stranger := Credential{Username: "u", Password: "x", Secret: "other/mine/3"}
	for name, tc := range map[string]struct {
		credential Credential
		want       bool
	}{
		"the same": {mine, true}, "the same secret, rotated": {rotated, true},
		"the same credential elsewhere": {copied, true}, "another": {stranger, false},
	} {
		if got := Allowed([]Credential{tc.credential}, mine.Keys()); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if Allowed(nil, mine.Keys()) {
		t.Error("nobody may")
	}
}

func TestBackoff(t *testing.T) {
	var b Backoff
	now := time.Unix(1000, 0)
	why := errors.New("why")
	for i, want := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
		if _, _, waits := b.Wait("a", now); waits {
			t.Fatalf("try %d is not let through", i)
		}
		b.Failed("a", why, now)
		until, err, waits := b.Wait("a", now)
		if until.Sub(now) != want*time.Second || err != why || !waits {
			t.Errorf("failure %d: until %v, %v, %v; want %v", i, until.Sub(now), err, waits, want*time.Second)
		}
		now = until
	}
	if _, _, waits := b.Wait("b", now); waits {
		t.Error("another image waits")
	}
	b.Failed("a", why, now.Add(time.Hour))
	if until, _, _ := b.Wait("a", now.Add(time.Hour)); until.Sub(now.Add(time.Hour)) != firstDelay {
		t.Errorf("after a quiet hour it waits %v", until.Sub(now.Add(time.Hour)))
	}
	b.Forget("a")
	if _, _, waits := b.Wait("a", now.Add(time.Hour)); waits {
		t.Error("a forgotten one waits")
	}
}

func TestToFree(t *testing.T) {
	for name, tc := range map[string]struct {
		high, low           int
		capacity, available int64
		want                int64
	}{
		"plenty":         {85, 80, 1000, 500, 0},
		"just below":     {85, 80, 1000, 160, 0},
		"at high":        {85, 80, 1000, 150, 50},
		"full":           {85, 80, 1000, 0, 200},
		"off":            {100, 80, 1000, 0, 0},
		"no disk":        {85, 80, 0, 0, 0},
		"more than fits": {85, 80, 1000, 2000, 0},
	} {
		if got := (Thresholds{High: tc.high, Low: tc.low}).ToFree(tc.capacity, tc.available); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

func TestUnused(t *testing.T) {
	start := time.Unix(10000, 0)
	list := []Image{{ID: "old", Size: 1}, {ID: "used", Size: 2}, {ID: "pinned", Pinned: true}, {ID: "running"}}
	var ages Ages
	ages.See(list, map[string]bool{"used": true, "running": true}, start)
	if got := ages.Unused(list, map[string]bool{"running": true}, 2*time.Minute, start); len(got) != 2 {
		t.Errorf("what was here at first is not old enough: %v", got)
	}
	list = append(list, Image{ID: "new", Size: 4}, Image{ID: "newer"})
	ages.See(list[:5], map[string]bool{"running": true}, start.Add(time.Minute))
	now := start.Add(2 * time.Minute)
	inUse := map[string]bool{"running": true}
	ages.See(list, inUse, now)
	ids := func(list []Image) (out []string) {
		for _, img := range list {
			out = append(out, img.ID)
		}
		return out
	}
	if diff := cmp.Diff([]string{"old", "used"}, ids(ages.Unused(list, inUse, 2*time.Minute, now))); diff != "" {
		t.Errorf("by age (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"old", "new", "used"}, ids(ages.Unused(list, inUse, time.Minute, now))); diff != "" {
		t.Errorf("at the age itself (-want +got):\n%s", diff)
	}
	later := now.Add(time.Hour)
	unused := ages.Unused(list, inUse, 2*time.Minute, later)
	if diff := cmp.Diff([]string{"old", "new", "newer", "used"}, ids(unused)); diff != "" {
		t.Errorf("in order (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"old", "new"}, ids(Enough(unused, 5))); diff != "" {
		t.Errorf("enough (-want +got):\n%s", diff)
	}
}

// Whatever is there: nothing goes that is used or pinned; what goes was
// used no later than what stays of those that could go; and no more goes than
// is needed.
func TestCollectProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ages Ages
		now := time.Unix(100000, 0)
		var list []Image
		var inUse map[string]bool
		lastUsed := map[string]time.Time{}
		ids := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-f]{1,3}`), 1, 8, rapid.ID[string]).Draw(t, "images")
		for range rapid.IntRange(1, 6).Draw(t, "looks") {
			now = now.Add(time.Duration(rapid.IntRange(1, 300).Draw(t, "seconds")) * time.Second)
			list, inUse = nil, map[string]bool{}
			for _, id := range ids {
				if !rapid.Bool().Draw(t, "there") {
					delete(lastUsed, id)
					continue
				}
				list = append(list, Image{ID: id, Size: rapid.Int64Range(0, 9).Draw(t, "size"), Pinned: rapid.IntRange(0, 4).Draw(t, "pin") == 0})
				if rapid.Bool().Draw(t, "used") {
					inUse[id], lastUsed[id] = true, now
				}
			}
			ages.See(list, inUse, now)
		}
		unused := ages.Unused(list, inUse, 2*time.Minute, now)
		toFree := rapid.Int64Range(0, 40).Draw(t, "toFree")
		going := Enough(unused, toFree)
		var freed int64
		for i, img := range going {
			if inUse[img.ID] || img.Pinned {
				t.Fatalf("%s goes", img.ID)
			}
			if freed >= toFree {
				t.Fatalf("%s goes for nothing", img.ID)
			}
			freed += img.Size
			for _, rest := range unused[i:] {
				if lastUsed[rest.ID].Before(lastUsed[img.ID]) {
					t.Fatalf("%s goes before %s, which was used earlier", img.ID, rest.ID)
				}
			}
		}
		if freed < toFree && len(going) < len(unused) {
			t.Fatal("too little goes")
		}
	})
}
