package runtime

import "testing"

func TestSignal(t *testing.T) {
	for in, want := range map[string]int{
		"": 0, "SIGQUIT": 3, "quit": 3, "9": 9, "SIGRTMIN": 34, "SIGRTMIN+3": 37, "SIGRTMAX-14": 50, "SIGRTMAX": 64,
		"SIGCLD": 17, "SIGIOT": 6, "SIGPOLL": 29, "SIGSTKFLT": 16, "SIGWINCH": 28, "SIGNONE": 0,
	} {
		if got := Signal(in); got != want {
			t.Errorf("%q: got %d, want %d", in, got, want)
		}
	}
	for number := 1; number <= lastRealTime; number++ {
		name := SignalName(number)
		if name == "" && (number == 32 || number == 33) {
			continue // libc's own
		}
		if got := Signal(name); got != number {
			t.Errorf("%d is called %q, which is %d", number, name, got)
		}
	}
	if name := SignalName(65); name != "" {
		t.Errorf("65 is called %q", name)
	}
}
