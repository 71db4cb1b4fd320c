package storage

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// ownedError says what git owns of an object that somebody wanted to write.
type ownedError []string

func (e ownedError) Error() string {
	return strings.Join(e, "; ") + "; change it there (--api-writes=deny)"
}

// uidError says that a write was meant for another object of that name.
type uidError struct{ wanted, found types.UID }

func (e uidError) Error() string {
	return fmt.Sprintf("Precondition failed: UID in precondition: %v, UID in object meta: %v", e.wanted, e.found)
}
