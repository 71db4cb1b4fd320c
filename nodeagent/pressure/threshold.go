package pressure

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal is something of which a node may have too little.
type Signal string

// The signals. nodefs is the file system of volumes and logs, imagefs that of
// images and of what containers write to their own.
const (
	MemoryAvailable   Signal = "memory.available"
	NodeFSAvailable   Signal = "nodefs.available"
	NodeFSInodesFree  Signal = "nodefs.inodesFree"
	ImageFSAvailable  Signal = "imagefs.available"
	ImageFSInodesFree Signal = "imagefs.inodesFree"
	PIDAvailable      Signal = "pid.available"
)

// Kinds of resources that are known here alone.
const (
	inodes corev1.ResourceName = "inodes"
	pids   corev1.ResourceName = "pids"
)

var signals = map[Signal]struct {
	resource  corev1.ResourceName
	condition corev1.NodeConditionType
}{
	MemoryAvailable:   {corev1.ResourceMemory, corev1.NodeMemoryPressure},
	NodeFSAvailable:   {corev1.ResourceEphemeralStorage, corev1.NodeDiskPressure},
	NodeFSInodesFree:  {inodes, corev1.NodeDiskPressure},
	ImageFSAvailable:  {corev1.ResourceEphemeralStorage, corev1.NodeDiskPressure},
	ImageFSInodesFree: {inodes, corev1.NodeDiskPressure},
	PIDAvailable:      {pids, corev1.NodePIDPressure},
}

// meantElsewhere are signals of the kubelet that say nothing of their own here.
var meantElsewhere = map[Signal]string{
	"containerfs.available":       sameDisk + " imagefs.available",
	"containerfs.inodesFree":      sameDisk + " imagefs.inodesFree",
	"allocatableMemory.available": "pods may use all memory but what memory.available keeps free: use memory.available",
}

const sameDisk = "what containers write lies on the images' file system: use"

// Resource is what a signal tells of, as messages name it.
func (s Signal) Resource() corev1.ResourceName { return signals[s].resource }

// IsDisk reports whether removing images and containers may help.
func (s Signal) IsDisk() bool { return signals[s].condition == corev1.NodeDiskPressure }

// Amount is a quantity, or a share of what there is.
type Amount struct {
	Value int64   // bytes or a number
	Share float64 // of the capacity, if Value is 0
}

func (a Amount) of(capacity int64) int64 {
	if a.Value != 0 {
		return a.Value
	}
	return int64(math.Floor(float64(capacity) * a.Share))
}

// Threshold is how little of something a node may have.
type Threshold struct {
	Signal     Signal
	Amount     Amount
	Grace      time.Duration // how long it may be met; 0 for a hard threshold
	MinReclaim Amount        // how much more there must be before it is no longer met
}

// DefaultHard are the kubelet's hard thresholds on Linux.
const DefaultHard = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%"

// Settings are thresholds as they are written in flags.
type Settings struct {
	Hard       string // "memory.available<100Mi,nodefs.available<10%"; empty: none
	Soft       string // likewise
	SoftGrace  string // "memory.available=1m30s"; one for each soft threshold
	MinReclaim string // "nodefs.available=500Mi"
}

// Parse reads settings. Soft thresholds come after hard ones.
func Parse(s Settings) ([]Threshold, error) {
	hard, err := parseThresholds(s.Hard)
	if err != nil {
		return nil, fmt.Errorf("hard eviction thresholds: %w", err)
	}
	soft, err := parseThresholds(s.Soft)
	if err != nil {
		return nil, fmt.Errorf("soft eviction thresholds: %w", err)
	}
	graces, err := parseEach(s.SoftGrace, "=", time.ParseDuration)
	if err != nil {
		return nil, fmt.Errorf("soft eviction grace periods: %w", err)
	}
	reclaims, err := parseEach(s.MinReclaim, "=", parseAmount)
	if err != nil {
		return nil, fmt.Errorf("minimum reclaims: %w", err)
	}
	for i := range soft {
		grace, ok := graces[soft[i].Signal]
		if !ok || grace <= 0 {
			return nil, fmt.Errorf("soft eviction threshold %s needs a grace period, as in %s=1m30s", soft[i].Signal, soft[i].Signal)
		}
		soft[i].Grace = grace
	}
	all := append(hard, soft...)
	for i := range all {
		all[i].MinReclaim = reclaims[all[i].Signal]
	}
	return all, nil
}

func parseThresholds(text string) ([]Threshold, error) {
	amounts, err := parseEach(text, "<", parseAmount)
	if err != nil {
		return nil, err
	}
	var out []Threshold
	for signal, amount := range amounts {
		// The kubelet takes 0 % and 100 % for "off".
		if amount.Value == 0 && (amount.Share <= 0 || amount.Share >= 1) {
			continue
		}
		out = append(out, Threshold{Signal: signal, Amount: amount})
	}
	// Memory first: it is what kills.
	slices.SortFunc(out, func(a, b Threshold) int {
		if am, bm := a.Signal == MemoryAvailable, b.Signal == MemoryAvailable; am != bm {
			return map[bool]int{true: -1, false: 1}[am]
		}
		return strings.Compare(string(a.Signal), string(b.Signal))
	})
	return out, nil
}

func parseEach[T any](text, sign string, parse func(string) (T, error)) (map[Signal]T, error) {
	out := map[Signal]T{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, sign)
		if !ok {
			return nil, fmt.Errorf("%q: want SIGNAL%sVALUE", part, sign)
		}
		signal := Signal(strings.TrimSpace(name))
		if why, meant := meantElsewhere[signal]; meant {
			return nil, fmt.Errorf("%q: %s", part, why)
		}
		if _, known := signals[signal]; !known {
			return nil, fmt.Errorf("%q: there is no signal %q: want memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree or pid.available", part, signal)
		}
		if _, twice := out[signal]; twice {
			return nil, fmt.Errorf("%q: %s is given twice", part, signal)
		}
		parsed, err := parse(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", part, err)
		}
		out[signal] = parsed
	}
	return out, nil
}

func parseAmount(text string) (Amount, error) {
	if number, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.ParseFloat(number, 64)
		if err != nil || percent < 0 || percent > 100 {
			return Amount{}, fmt.Errorf("%q is not 0%% to 100%%", text)
		}
		return Amount{Share: percent / 100}, nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() < 0 {
		return Amount{}, fmt.Errorf("%q is neither a quantity, as 100Mi, nor a share, as 10%%", text)
	}
	return Amount{Value: q.Value()}, nil
}
