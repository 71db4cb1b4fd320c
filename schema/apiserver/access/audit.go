package access

import (
	"fmt"

	"gopkg.in/natefinch/lumberjack.v2"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	auditlog "k8s.io/apiserver/plugin/pkg/audit/log"
)

// auditDefault logs who asked for what, without bodies; of reads only those of
// secrets and what goes on to a pod or a node, which may do anything there, and
// of what is asked all the time nothing.
const auditDefault = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    nonResourceURLs: [/healthz*, /livez*, /readyz*, /version*, /openapi*, /api*, /metrics]
  - level: None
    resources:
      - {group: "", resources: [events]}
      - {group: events.k8s.io, resources: [events]}
      - {group: coordination.k8s.io, resources: [leases]}
  - level: Metadata
    resources:
      - {group: "", resources: [secrets, serviceaccounts/token, pods/exec, pods/attach, pods/portforward]}
      - {group: "", resources: [pods/proxy, services/proxy, nodes/proxy]}
  - level: None
    verbs: [get, list, watch]
  - level: Metadata
`

// The audit log is rotated by size.
const (
	auditMegabytes = 100
	auditFiles     = 10
)

// Audit returns the backend that writes an audit log of Kubernetes' format to
// a file, and the policy of what is logged: that of a file in Kubernetes'
// format, or one that logs every change, without bodies, for "".
func Audit(path, policyFile string) (audit.Backend, audit.PolicyRuleEvaluator, error) {
	rules, err := policy.LoadPolicyFromBytes([]byte(auditDefault))
	if policyFile != "" {
		rules, err = policy.LoadPolicyFromFile(policyFile)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("audit policy: %w", err)
	}
	out := &lumberjack.Logger{Filename: path, MaxSize: auditMegabytes, MaxBackups: auditFiles}
	if _, err := out.Write(nil); err != nil {
		return nil, nil, fmt.Errorf("audit log %s: %w", path, err)
	}
	return auditlog.NewBackend(out, auditlog.FormatJson, auditv1.SchemeGroupVersion), policy.NewPolicyRuleEvaluator(rules), nil
}
