package manager_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// BenchmarkThroughController makes 10,000 pods of one replication controller
// on 1,000 nodes, all controllers running, and reports pods bound per second.
func BenchmarkThroughController(b *testing.B) {
	const nodes, pods = 1000, 10000
	for b.Loop() {
		b.StopTimer()
		c := newCluster(b)
		ctx, cancel := context.WithCancel(c.ctx)
		for i := range nodes {
			name := fmt.Sprint("n", i)
			status := nodeStatus(name)
			c.put(schema.NodeStatusPrefix+name, status)
			c.put(schema.NodeLeasePrefix+name, nil)
		}
		ended := c.lead(ctx, "a")
		c.until("nodes registered", func() (bool, string) {
			n := len(c.mirror.Raw(schema.PodCIDRsPrefix))
			return n == nodes && c.mirror.Count(schema.Namespaces) == 2, fmt.Sprint(n)
		})
		labels := map[string]string{"app": "web"}
		replicas := int32(pods)
		rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
		rc.Spec.Replicas, rc.Spec.Selector = &replicas, labels
		rc.Spec.Template = &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "web:1"}}}}
		b.StartTimer()
		began := time.Now()
		c.create(rc)
		for bound := 0; bound < pods; bound = countBound(c) {
			<-time.After(20 * time.Millisecond)
		}
		b.ReportMetric(pods/time.Since(began).Seconds(), "pods/s")
		cancel()
		<-ended
	}
}

func countBound(c *cluster) int {
	bound := 0
	for _, p := range registry.ListOf[*corev1.Pod](c.mirror, schema.Pods, "default") {
		if p.Spec.NodeName != "" {
			bound++
		}
	}
	return bound
}
