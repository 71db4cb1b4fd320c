package node

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/nodeagent"
	"github.com/evenkeel/evenkeel/nodeagent/images"
	"github.com/evenkeel/evenkeel/nodeagent/pressure"
)

// Resources say where images come from, and what happens when the machine runs
// out of something.
type Resources struct {
	RegistryDir string
	MaxPulls    int
	PodPIDs     int64
	ImageGC     images.Thresholds
	Pressure    pressure.Settings
	Transition  time.Duration
	MaxPodGrace int64 // seconds
}

// defaultPodPIDs is far more than programs need that do not fork without end,
// and far less than machines have.
const defaultPodPIDs = 4096

func (r *Resources) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&r.RegistryDir, "registry-config", "", "directory that says where registries are, who mirrors them and whom to trust: HOST/hosts.toml, as containerd's certs.d")
	flags.IntVar(&r.MaxPulls, "max-parallel-pulls", 3, "images that are pulled at once")
	flags.Int64Var(&r.PodPIDs, "pod-max-pids", defaultPodPIDs, "processes and threads that a pod may have; 0 for any number")
	flags.IntVar(&r.ImageGC.High, "image-gc-high-threshold", 85, "percent of the images' disk in use from which on unused images are removed; 100 for never")
	flags.IntVar(&r.ImageGC.Low, "image-gc-low-threshold", 80, "percent of the images' disk in use down to which unused images are removed")
	flags.DurationVar(&r.ImageGC.MinAge, "image-min-age", 2*time.Minute, "how long an unused image stays at least")
	flags.StringVar(&r.Pressure.Hard, "eviction-hard", pressure.DefaultHard, "thresholds at which pods are evicted at once; empty for none")
	flags.StringVar(&r.Pressure.Soft, "eviction-soft", "", "thresholds at which pods are evicted after a grace period")
	flags.StringVar(&r.Pressure.SoftGrace, "eviction-soft-grace-period", "", "how long each soft threshold may be met: memory.available=1m30s")
	flags.StringVar(&r.Pressure.MinReclaim, "eviction-minimum-reclaim", "", "how much more than a threshold is reclaimed: nodefs.available=500Mi")
	flags.DurationVar(&r.Transition, "eviction-pressure-transition-period", 5*time.Minute, "how long the node reports pressure after it was last under it")
	flags.Int64Var(&r.MaxPodGrace, "eviction-max-pod-grace-period", 0, "seconds that a pod has at most to end when it is evicted at a soft threshold")
}

// eviction is what the agent is told.
func (r *Resources) eviction() (nodeagent.Eviction, error) {
	thresholds, err := pressure.Parse(r.Pressure)
	if err != nil {
		return nodeagent.Eviction{}, err
	}
	return nodeagent.Eviction{
		Thresholds: thresholds, Transition: r.Transition, MaxPodGrace: time.Duration(r.MaxPodGrace) * time.Second, ImageGC: r.ImageGC,
	}, nil
}

func (r *Resources) validate() error {
	if r.MaxPulls < 0 {
		return fmt.Errorf("--max-parallel-pulls %d: must not be negative", r.MaxPulls)
	}
	if info, err := os.Stat(r.RegistryDir); r.RegistryDir != "" && (err != nil || !info.IsDir()) {
		return fmt.Errorf("--registry-config %s: is not a directory", r.RegistryDir)
	}
	if r.PodPIDs < 0 {
		return fmt.Errorf("--pod-max-pids %d: must not be negative", r.PodPIDs)
	}
	if err := r.ImageGC.Validate(); err != nil {
		return fmt.Errorf("--image-gc-high-threshold, --image-gc-low-threshold, --image-min-age: %w", err)
	}
	_, err := r.eviction()
	return err
}
