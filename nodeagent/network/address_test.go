package network

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestPool(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.1.2.0/29"))
	var got []string
	take := func(owner string) {
		a, err := p.acquire(owner)
		if err != nil {
			got = append(got, "error")
			return
		}
		got = append(got, a.String())
	}
	take("a")
	take("b")
	take("a") // has one
	p.release("a")
	take("c") // not the one just freed
	take("d")
	take("e")
	take("f") // around
	take("g") // full
	want := []string{"10.1.2.2", "10.1.2.3", "10.1.2.2", "10.1.2.4", "10.1.2.5", "10.1.2.6", "10.1.2.2", "error"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestPoolNeverGivesTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cidr := netip.MustParsePrefix("10.1.2.0/28")
		p, owners := newPool(cidr), map[netip.Addr]string{}
		for i := range rapid.IntRange(0, 60).Draw(t, "steps") {
			owner := fmt.Sprint(rapid.IntRange(0, 20).Draw(t, "owner"))
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				delete(owners, p.of(owner))
				p.release(owner)
			case 1:
				if i%3 == 0 {
					fresh := newPool(cidr) // a restart
					for a, o := range owners {
						fresh.reserve(a, o)
					}
					p = fresh
				}
			default:
				a, err := p.acquire(owner)
				if err != nil {
					if len(owners) < 13 {
						t.Fatalf("%v with %d in use", err, len(owners))
					}
					continue
				}
				if o, ok := owners[a]; ok && o != owner {
					t.Fatalf("%s given to %s and %s", a, o, owner)
				}
				if !cidr.Contains(a) || a == cidr.Addr() || a.String() == "10.1.2.1" || a.String() == "10.1.2.15" {
					t.Fatalf("%s given", a)
				}
				owners[a] = owner
			}
		}
	})
}

func TestDisjoint(t *testing.T) {
	var in []netip.Prefix
	for _, s := range []string{"10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/24", "10.1.0.0/16", "fd00::/64"} {
		in = append(in, netip.MustParsePrefix(s))
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("10.1.0.0/16")}
	if d := cmp.Diff(want, disjoint(in), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
