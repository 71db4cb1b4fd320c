package eviction_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/reconciler/controller/eviction"
	"github.com/evenkeel/evenkeel/schema"
)

func taint(key, value string) corev1.Taint {
	return corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffectNoExecute}
}

func tolerates(key string, seconds ...int64) corev1.Toleration {
	t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
	for _, s := range seconds {
		t.TolerationSeconds = &s
	}
	return t
}

// TestJudge has one pod on a node for 100 s and its taints for 60 s; the leader
// has been looking for as long.
func TestJudge(t *testing.T) {
	now := time.Now()
	team, other := taint("team", "a"), taint("other", "")
	gone, notReady := taint(corev1.TaintNodeUnreachable, ""), taint(corev1.TaintNodeNotReady, "")
	type tolerations = []corev1.Toleration
	type verdict struct {
		Evict string // the taint; "gone" after it if the node is
		Waits string // "stated" or "default"
		Again time.Duration
	}
	const minute = time.Minute
	for name, tc := range map[string]struct {
		taints      []corev1.Taint
		tolerations tolerations
		change      func(*eviction.Scene)
		want        verdict
	}{
		"none":                                  {},
		"not tolerated":                         {[]corev1.Taint{team}, nil, nil, verdict{Evict: "team"}},
		"a taint that keeps away":               {[]corev1.Taint{{Key: "team", Effect: corev1.TaintEffectNoSchedule}}, nil, nil, verdict{}},
		"for ever":                              {[]corev1.Taint{team}, tolerations{tolerates("team")}, nil, verdict{}},
		"everything, for ever":                  {[]corev1.Taint{team, gone}, tolerations{{Operator: corev1.TolerationOpExists}}, gonely, verdict{}},
		"of another value":                      {[]corev1.Taint{team}, tolerations{{Key: "team", Value: "b"}}, nil, verdict{Evict: "team"}},
		"of another effect":                     {[]corev1.Taint{team}, tolerations{{Key: "team", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}, nil, verdict{Evict: "team"}},
		"for longer":                            {[]corev1.Taint{team}, tolerations{tolerates("team", 61)}, nil, verdict{Waits: "stated", Again: time.Second}},
		"for as long":                           {[]corev1.Taint{team}, tolerations{tolerates("team", 60)}, nil, verdict{Evict: "team"}},
		"for no time":                           {[]corev1.Taint{team}, tolerations{tolerates("team", 0)}, nil, verdict{Evict: "team"}},
		"for less than no time":                 {[]corev1.Taint{team}, tolerations{tolerates("team", -5)}, nil, verdict{Evict: "team"}},
		"the first that matches counts":         {[]corev1.Taint{team}, tolerations{tolerates("", 90), tolerates("team")}, nil, verdict{Waits: "stated", Again: 30 * time.Second}},
		"the shortest of several taints counts": {[]corev1.Taint{team, other}, tolerations{tolerates("team", 600), tolerates("other", 90)}, nil, verdict{Waits: "stated", Again: 30 * time.Second}},
		"one for ever, one for a time":          {[]corev1.Taint{team, other}, tolerations{tolerates("team"), tolerates("other", 90)}, nil, verdict{Waits: "stated", Again: 30 * time.Second}},
		"one of two is not tolerated":           {[]corev1.Taint{team, other}, tolerations{tolerates("team")}, nil, verdict{Evict: "other"}},
		"so many seconds that they overflow":    {[]corev1.Taint{team}, tolerations{tolerates("team", 1<<62)}, nil, verdict{Waits: "stated", Again: 9223372036*time.Second - minute}},
		"it came later": {[]corev1.Taint{team}, tolerations{tolerates("team", 60)}, func(s *eviction.Scene) {
			s.Clocks.Pods["u"] = now.Add(-20 * time.Second)
		}, verdict{Waits: "stated", Again: 40 * time.Second}},
		"finished":                        {[]corev1.Taint{team}, nil, func(s *eviction.Scene) { s.Pods[0].Status.Phase = corev1.PodSucceeded }, verdict{}},
		"a mirror of a static pod":        {[]corev1.Taint{team}, nil, func(s *eviction.Scene) { s.Pods[0].Annotations = map[string]string{schema.MirrorAnnotation: "x"} }, verdict{}},
		"ending":                          {[]corev1.Taint{team}, nil, ending, verdict{}},
		"the node is gone":                {[]corev1.Taint{gone}, nil, gonely, verdict{Evict: gone.Key + " gone"}},
		"the node is back":                {[]corev1.Taint{gone}, nil, nil, verdict{}},
		"gone, tolerated for longer":      {[]corev1.Taint{gone}, tolerations{tolerates(gone.Key, 300)}, gonely, verdict{Waits: "stated", Again: 4 * minute}},
		"gone, and ending":                {[]corev1.Taint{gone}, nil, func(s *eviction.Scene) { gonely(s); ending(s) }, verdict{Evict: gone.Key + " gone"}},
		"gone, ending, for longer":        {[]corev1.Taint{gone, team}, tolerations{tolerates(gone.Key, 300)}, func(s *eviction.Scene) { gonely(s); ending(s) }, verdict{Waits: "stated", Again: 4 * minute}},
		"gone for longer, team for none":  {[]corev1.Taint{gone, team}, tolerations{tolerates(gone.Key, 300)}, gonely, verdict{Evict: "team", Again: 4 * minute}},
		"gone and team for none":          {[]corev1.Taint{team, gone}, nil, gonely, verdict{Evict: gone.Key + " gone"}},
		"gone, says a new leader":         {[]corev1.Taint{gone}, tolerations{tolerates(gone.Key, 0)}, func(s *eviction.Scene) { gonely(s); s.Looking = time.Second }, verdict{Waits: "stated", Again: 4 * time.Second}},
		"not ready":                       {[]corev1.Taint{notReady}, nil, unready, verdict{Waits: "default", Again: 4 * minute}},
		"not ready, tolerated for less":   {[]corev1.Taint{notReady}, tolerations{tolerates(notReady.Key, 10)}, unready, verdict{Evict: notReady.Key}},
		"ready again":                     {[]corev1.Taint{notReady}, tolerations{tolerates(notReady.Key, 10)}, nil, verdict{}},
		"not ready, tolerated for always": {[]corev1.Taint{notReady}, tolerations{tolerates(notReady.Key)}, unready, verdict{}},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}, Spec: corev1.PodSpec{Tolerations: tc.tolerations}}
		scene := eviction.Scene{
			Node: &corev1.Node{Spec: corev1.NodeSpec{Taints: tc.taints}}, Present: true, Ready: true, Pods: []*corev1.Pod{pod},
			Clocks:  eviction.Clocks{Taints: map[string]time.Time{}, Pods: map[types.UID]time.Time{"u": now.Add(-100 * time.Second)}},
			Looking: minute, EvictAfter: 5 * time.Second,
		}
		for _, t := range tc.taints {
			scene.Clocks.Taints[t.Key+"="+t.Value] = now.Add(-minute)
		}
		if tc.change != nil {
			tc.change(&scene)
		}
		v := eviction.Judge(scene, now)
		got := verdict{Again: v.Again}
		for _, e := range v.Evict {
			got.Evict = e.Taint.Key
			if e.Gone {
				got.Evict += " gone"
			}
		}
		for _, stated := range v.Waiting {
			if got.Waits = "default"; stated {
				got.Waits = "stated"
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func gonely(s *eviction.Scene)  { s.Present = false }
func unready(s *eviction.Scene) { s.Ready = false }
func ending(s *eviction.Scene) {
	now := metav1.Now()
	s.Pods[0].DeletionTimestamp = &now
}
