package manifests

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
)

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\n"
}

// TestBatches loads more files, and more text of files of many documents, than
// are taken at once, in turn.
func TestBatches(t *testing.T) {
	const docs = 2 * fewDocuments
	padding := "# " + strings.Repeat("-", batchBytes/2/docs) + "\n"
	var files []string
	for i := range readBatch + 100 {
		files = append(files, fmt.Sprintf("%d.yaml", i), configMap(fmt.Sprintf("small-%d", i)))
		if i%(readBatch/4) > 0 {
			continue
		}
		var many strings.Builder
		for doc := range docs {
			many.WriteString("---\n" + padding + configMap(fmt.Sprintf("large-%d-%d", i, doc)))
		}
		files = append(files, fmt.Sprintf("%d-many.yaml", i), many.String())
	}
	sets, found := load(t, snapshot("s", files...))
	want := readBatch + 100 + docs*5
	if len(found) > 0 || len(sets[0].Items) != want {
		t.Errorf("%d of %d objects, findings %v", len(sets[0].Items), want, found)
	}
}

// TestLoadEnds ends a load while files are read: whatever has not been read
// and parsed by then is unread, and none is taken for empty.
func TestLoadEnds(t *testing.T) {
	var files []string
	const all = 3 * readBatch
	for i := range all {
		files = append(files, fmt.Sprintf("%d.yaml", i), configMap(fmt.Sprintf("c%d", i)))
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	snap := snapshot("s", files...)
	var reads atomic.Int64
	for i := range snap.Files {
		read := snap.Files[i].Read
		snap.Files[i].Read = func() ([]byte, error) {
			if reads.Add(1) == readBatch+readBatch/2 {
				cancel(errors.New("enough"))
			}
			return read()
		}
	}
	sets, found := NewLoader().Load(ctx, snap)
	unread := 0
	for _, d := range found {
		if d.Code != codeUnreadable || !strings.Contains(d.Message, "enough") {
			t.Fatalf("found %s", d)
		}
		unread++
	}
	if objects := len(sets[0].Items); objects+unread != all || objects < readBatch || unread < readBatch {
		t.Errorf("%d objects and %d unread files of %d", objects, unread, all)
	}
}
