package nodeagent

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestEarlyLooks(t *testing.T) {
	const period, delay = 10 * time.Second, 5 * time.Second
	for _, c := range []struct {
		name      string
		wanted    bool
		after     time.Duration // initial delay
		wellAfter time.Duration // 0: never
		well      bool
		most      time.Duration // until it returns, at most
		looks     int           // at most
	}{
		{"well at once", true, 0, time.Millisecond, true, 25 * time.Millisecond, 1},
		{"well a little later", true, 0, 120 * time.Millisecond, true, 175 * time.Millisecond, 3},
		{"well before its delay", true, delay, time.Millisecond, true, delay + 25*time.Millisecond, 1},
		{"due after its delay", true, period, time.Millisecond, false, period, 0},
		{"never well", true, 0, 0, false, period, 8},
		{"not wanted", false, 0, time.Millisecond, false, period, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, looks := time.Now(), 0
				early := earlyLooks{wanted: c.wanted, after: began.Add(c.after), delay: firstEarlyLook}
				well := early.until(t.Context(), began.Add(period), func() bool {
					looks++
					if time.Since(began) < c.after {
						t.Errorf("looked after %v", time.Since(began))
					}
					return c.wellAfter > 0 && time.Since(began) >= c.wellAfter
				})
				if took := time.Since(began); well != c.well || took > c.most || looks > c.looks {
					t.Errorf("well %v after %v and %d looks, want %v within %v and %d", well, took, looks, c.well, c.most, c.looks)
				}
				if !c.well && time.Since(began) != period {
					t.Errorf("did not wait until the attempt is due: %v", time.Since(began))
				}
			})
		})
	}
}
