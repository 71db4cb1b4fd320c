package manifests

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// manifest is a pod of about 1 KB.
func manifest(i int) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: web-%d
  namespace: shop
  labels:
    app.kubernetes.io/name: web
    app.kubernetes.io/instance: web-%d
    tier: frontend
  annotations:
    evenkeel.io/owner: "team-shop"
spec:
  restartPolicy: Always
  terminationGracePeriodSeconds: 20
  containers:
  - name: web
    image: registry.example.org/shop/web:1.2.3
    imagePullPolicy: IfNotPresent
    command: ["/bin/web"]
    args: ["--listen=:8080", "--store=store.shop"]
    ports:
    - name: http
      containerPort: 8080
    env:
    - name: LANG
      value: C.UTF-8
    - name: POD_NAME
      valueFrom:
        fieldRef:
          fieldPath: metadata.name
    resources:
      requests:
        cpu: 100m
        memory: 64Mi
      limits:
        memory: 128Mi
    readinessProbe:
      httpGet:
        path: /healthz
        port: http
      periodSeconds: 5
    volumeMounts:
    - name: data
      mountPath: /data
  volumes:
  - name: data
    emptyDir: {}
`, i, i)
}

const many = 10_000

func manyFiles(perFile int) Snapshot {
	var files []string
	for i := 0; i < many; i += perFile {
		var docs []string
		for j := i; j < i+perFile; j++ {
			docs = append(docs, manifest(j))
		}
		files = append(files, fmt.Sprintf("%05d.yaml", i), strings.Join(docs, "---\n"))
	}
	return snapshot("s", files...)
}

func mustLoad(b *testing.B, l *Loader, snap Snapshot) {
	sets, found := l.Load(context.Background(), snap)
	if len(found) > 0 || len(sets[0].Items) != many {
		b.Fatalf("%d items, findings %v", len(sets[0].Items), found)
	}
}

func BenchmarkLoadCold(b *testing.B) {
	for _, perFile := range []int{1, 2500} {
		b.Run(fmt.Sprintf("documents=%d", perFile), func(b *testing.B) {
			snap := manyFiles(perFile)
			for b.Loop() {
				mustLoad(b, NewLoader(), snap)
			}
		})
	}
}

func BenchmarkLoadOneFileChanged(b *testing.B) {
	snap := manyFiles(1)
	loader := NewLoader()
	mustLoad(b, loader, snap)
	for i := 0; b.Loop(); i++ {
		changed := snapshot("s", "x.yaml", strings.Replace(manifest(7), "C.UTF-8", fmt.Sprint("v", i), 1))
		next := snap
		next.Tree, next.Files = changed.Tree, append([]File(nil), snap.Files...)
		next.Files[7].Hash, next.Files[7].Read = changed.Files[0].Hash, changed.Files[0].Read
		mustLoad(b, loader, next)
	}
}

func BenchmarkLoadUnchanged(b *testing.B) {
	snap := manyFiles(1)
	loader := NewLoader()
	mustLoad(b, loader, snap)
	for b.Loop() {
		mustLoad(b, loader, snap)
	}
}
