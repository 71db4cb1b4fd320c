package validation

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/storage"
	storagevalidation "k8s.io/kubernetes/pkg/apis/storage/validation"
)

// validateStorage judges volumes, claims and storage classes. old is nil for
// a creation; false for other kinds, and for objects of different types.
func validateStorage(obj, old runtime.Object) (field.ErrorList, bool) {
	switch o := obj.(type) {
	case *core.PersistentVolume:
		return judge(o, old, validateVolume, func(o, old *core.PersistentVolume) field.ErrorList {
			opts := corevalidation.ValidationOptionsForPersistentVolume(o, old)
			errs := corevalidation.ValidatePersistentVolume(o, opts)
			return append(errs, corevalidation.ValidatePersistentVolumeUpdate(o, old, opts)...)
		})
	case *core.PersistentVolumeClaim:
		return judge(o, old, validateClaim, func(o, old *core.PersistentVolumeClaim) field.ErrorList {
			return corevalidation.ValidatePersistentVolumeClaimUpdate(o, old, corevalidation.ValidationOptionsForPersistentVolumeClaim(o, old))
		})
	case *storage.StorageClass:
		return judge(o, old, storagevalidation.ValidateStorageClass, func(o, old *storage.StorageClass) field.ErrorList {
			return append(storagevalidation.ValidateStorageClass(o), storagevalidation.ValidateStorageClassUpdate(o, old)...)
		})
	}
	return nil, false
}

func validateVolume(o *core.PersistentVolume) field.ErrorList {
	return corevalidation.ValidatePersistentVolume(o, corevalidation.ValidationOptionsForPersistentVolume(o, nil))
}

func validateClaim(o *core.PersistentVolumeClaim) field.ErrorList {
	return corevalidation.ValidatePersistentVolumeClaim(o, corevalidation.ValidationOptionsForPersistentVolumeClaim(o, nil))
}
