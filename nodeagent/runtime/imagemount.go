package runtime

import "context"

// ImageMounter mounts images as volumes of pods.
type ImageMounter interface {
	// MountImage mounts the files of a local image, read-only, on a directory
	// where nothing is mounted. They stay until ReleaseImages, whatever becomes
	// of the image's references; ErrImageNotFound if it is not in the store.
	MountImage(ctx context.Context, m ImageMount) error
	// ReleaseImages lets go of all images that were mounted for a pod, which
	// the caller has unmounted. Nil if there is none.
	ReleaseImages(ctx context.Context, podUID string) error
}

// ImageMount is an image as a volume of a pod.
type ImageMount struct {
	PodUID string
	Volume string // its name in the pod
	Image  string // reference of a local image
	Target string // absolute path of a directory
	User   string // path of the pinned user namespace that the files show their IDs in; empty: the host's
}
