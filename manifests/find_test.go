package manifests

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	podHead = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n"                   // lines 1 to 4
	podBody = podHead + "spec:\n  containers:\n  - name: a\n    image: nginx\n"       // lines 5 to 8
	config  = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n"               // lines 1 to 4
	secret  = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n"                  // lines 1 to 4
	service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n"        // lines 1 to 5
	rcHead  = "apiVersion: v1\nkind: ReplicationController\nmetadata:\n  name: web\n" // lines 1 to 4
)

// TestFindings gives one mistake each, and says place, code, and a part of the
// message and of the suggestion.
func TestFindings(t *testing.T) {
	for _, tc := range []struct {
		name, text                string
		at, code, says, suggested string
	}{
		{"typo", rcHead + "spec:\n  replica: 5\n  selector: {a: b}\n", "6:3", codeUnknownField, `unknown field "replica"`, `did you mean "replicas"?`},
		{"case", podHead + "spec:\n  Containers: []\n", "6:3", codeUnknownField, `unknown field "Containers"`, `did you mean "containers"?`},
		{"nothing near", podBody + "    qqqqqqqqq: 1\n", "9:5", codeUnknownField, `unknown field "qqqqqqqqq" in spec.containers[0]`, ""},
		{"duplicate key", podBody + "    image: other\n", "9:5", codeDuplicateKey, `duplicate key "image"`, "line 8"},
		{"duplicate key in map", config + "data:\n  a: x\n  a: y\n", "7:3", codeDuplicateKey, `duplicate key "a"`, "line 6"},
		{"Norway", config + "data:\n  country: NO\n", "6:12", codeUnquoted, "data.country: expected string, found boolean NO", `write "NO"`},
		{"version", config + "data:\n  v: 1.10\n", "6:6", codeUnquoted, "found number 1.10", `write "1.10"`},
		{"octal", config + "data:\n  mode: 0777\n", "6:9", codeUnquoted, "found integer 0777", `write "0777"`},
		{"exponent", config + "data:\n  id: 1e3\n", "6:7", codeUnquoted, "found number 1e3", `write "1e3"`},
		{"big integer", config + "data:\n  id: 12345678901234567890\n", "6:7", codeUnquoted, "12345678901234567890", `write "12345678901234567890"`},
		{"true", podBody + "    env:\n    - name: A\n      value: true\n", "11:14", codeUnquoted, "spec.containers[0].env[0].value: expected string, found boolean true", `write "true"`},
		{"string for integer", rcHead + "spec:\n  replicas: \"3\"\n", "6:13", codeWrongType, `expected integer, found string "3"`, "write 3 without quotes"},
		{"word for integer", rcHead + "spec:\n  replicas: many\n", "6:13", codeWrongType, `expected integer, found string "many"`, ""},
		{"fraction for integer", rcHead + "spec:\n  replicas: 1.5\n", "6:13", codeWrongType, "expected integer, found number 1.5", ""},
		{"too big", rcHead + "spec:\n  replicas: 4294967296\n", "6:13", codeBadValue, "4294967296 is too big for a 32 bit integer", ""},
		{"string for boolean", podBody + "  hostNetwork: \"true\"\n", "9:16", codeWrongType, "expected boolean, found string", "write true without quotes"},
		{"list for mapping", podHead + "spec: []\n", "5:7", codeWrongType, "spec: expected mapping, found list", ""},
		{"mapping for list", podHead + "spec:\n  containers:\n    name: a\n", "7:5", codeWrongType, "spec.containers: expected list, found mapping", ""},
		{"list for string", podBody + "    workingDir: [a]\n", "9:17", codeWrongType, "expected string, found list", ""},
		{"quantity", podBody + "    resources: {limits: {memory: 128MB}}\n", "9:34", codeBadValue, `"128MB" is no quantity`, `did you mean "128M"?`},
		{"quantity in lower case", podBody + "    resources: {limits: {memory: 1gi}}\n", "9:34", codeBadValue, `"1gi" is no quantity`, `did you mean "1Gi"?`},
		{"quantity with a comma", podBody + "    resources: {limits: {cpu: '0,5'}}\n", "9:31", codeBadValue, "is no quantity", `did you mean "0.5"?`},
		{"no blank after colon", "apiVersion: v1\nkind: Pod\nmetadata:\n  name:web\n", "4:3", codeWrongType, "metadata: expected mapping", "a space after the colon"},
		{"label", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n  labels: {a: b, c: 'd e'}\n", "5:21", codeInvalid, "metadata.labels: invalid value: \"d e\"", ""},
		{"mount", podBody + "    volumeMounts: [{name: dta, mountPath: /d}]\n  volumes: [{name: data, emptyDir: {}}]\n", "9:27", codeInvalid, "not found: \"dta\"", `did you mean "data"?`},
		{"word of compose", podBody + "    environment: []\n", "9:5", codeUnknownField, "environment", `did you mean "env"?`},
		{"port", service + "  ports: [{port: 80, targetPort: true}]\n", "6:34", codeWrongType, "expected integer or string, found boolean", ""},
		{"base64", config + "binaryData: {a: '%%'}\n", "5:17", codeBadValue, "binaryData.a: the value is not base64", ""},
		{"not unquoted key", config + "data:\n  on: x\n", "6:3", codeKey, "expected a string as key, found boolean", "quotes"},
		{"tag", config + "data:\n  a: !!binary YQ==\n", "6:6", codeTag, "the tag !!binary", ""},
		{"tab", podHead + "spec:\n\tcontainers: []\n", "6:1", codeSyntax, "a tab cannot indent YAML", "indent with spaces"},
		{"colon", config + "data:\n  a: b: c\n", "6:3", codeSyntax, "mapping values are not allowed", ""},
		{"unclosed quote", config + "data:\n  a: \"b\n  c: d\n", "6:3", codeSyntax, "unexpected end of stream", ""},
		{"unknown anchor", config + "data:\n  a: *b\n", "6:6", codeSyntax, "unknown anchor 'b'", ""},
		{"comma in JSON", "# first\n{\n  \"kind\": \"Pod\"\n  \"apiVersion\": \"v1\"}\n", "4:3", codeSyntax, "invalid character", ""},
		{"template", podHead + "spec:\n  nodeName: {{ .Values.node }}-1\n", "6:3", codeSyntax, "did not find expected key", "template"},
		{"merge conflict", podHead + "<<<<<<< HEAD\nspec: {}\n=======\n", "5:1", codeSyntax, "", "merge conflict"},
		{"carriage returns alone", "apiVersion: v1\r\nkind: Pod\rmetadata:\r", "2:10", codeSyntax, "a carriage return alone", "line ends of Unix"},
		{"lines that only YAML sees", config + "data:\n  a: \"b\u2028c\u0085d\"\n  e: 1\n", "7:6", codeUnquoted, "data.e", `write "1"`},
		{"open bracket", "\n\nkind: [\n", "3:1", codeSyntax, "did not find expected", ""},
		{"open brace", config + "data: {a: b\n", "5:1", codeSyntax, "did not find expected ',' or '}'", ""},
		{"wrong bracket at once", "kind: [}\nb: c\n", "1:1", codeSyntax, "did not find expected", ""},
		{"indented too little", config + "data:\n  a: b\n c: d\n", "7:2", codeSyntax, "did not find expected key", ""},
		{"not UTF-8", config + "data:\n  a: \xff\n", "6:6", codeNotUTF8, "not UTF-8", ""},
		{"UTF-16", "\xff\xfek\x00", "0:0", codeNotUTF8, "UTF-16", "UTF-8"},
		{"LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "0:0", codeLFS, "Git LFS pointer", ""},
		{"alias bomb", bomb(), "", codeAliases, "more than 10000 values", ""},
		{"deep", "a: " + strings.Repeat("[", 80) + strings.Repeat("]", 80), "1:68", codeDepth, "nested more than 64 deep", ""},
		{"circle", config + "data: &a\n  x: *a\n", "5:7", codeWrongType, "data.x: expected string, found mapping", ""},
		{"scalar", "hello\n", "1:1", codeNoObject, "found string", ""},
		{"list of objects", "- a\n", "1:1", codeNoObject, "found list", ""},
		{"no kind", "apiVersion: v1\nmetadata: {name: a}\n", "1:1", codeIncomplete, "missing kind", ""},
		{"misspelt apiVersion", "apiversion: v1\nkind: Pod\n", "1:1", codeIncomplete, "missing apiVersion", `"apiVersion" is written "apiversion"`},
		{"no name", "apiVersion: v1\nkind: Namespace\nmetadata: {}\n", "3:1", codeIncomplete, "missing metadata.name", ""},
		{"kind", "apiVersion: v1\nkind: Podd\n", "2:7", codeUnknownKind, `unknown kind "Podd"`, `did you mean "Pod"?`},
		{"kind's case", "apiVersion: v1\nkind: service\n", "2:7", codeUnknownKind, `unknown kind "service"`, `did you mean "Service"?`},
		{"strange kind", "apiVersion: example.org/v1\nkind: Xyzzyplugh\n", "2:7", codeUnknownKind, `unknown kind "Xyzzyplugh"`, "known: Namespace, Node"},
		{"deployment", "apiVersion: apps/v1\nkind: Deployment\n", "2:7", codeUnsupportedKind, "valid Kubernetes, not supported here yet: apps/v1 Deployment", ""},
		{"version of a kind", "apiVersion: apps/v1\nkind: Pod\n", "1:13", codeVersion, `unknown apiVersion "apps/v1" for Pod`, `did you mean "v1"?`},
		{"event", "apiVersion: v1\nkind: Event\nmetadata: {name: a}\n", "2:7", codeSystemKind, "made by the system", ""},
		{"kustomization", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n", "2:7", codeNoManifest, "is no manifest", "kustomize is not supported"},
		{"bare kustomization", "resources: [a.yaml]\n", "1:1", codeNoManifest, "a kustomization is no manifest", "commit what it renders"},
		{"generateName", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  generateName: a-\n", "4:17", codeGenerateName, "cannot be declared", "metadata.name"},
		{"cluster-wide", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  namespace: b\n", "5:14", codeNamespace, "belong to no namespace", "remove it"},
		{"unsupported field", podBody + "  overhead:\n    cpu: 1\n", "9:3", codeUnsupported, "valid Kubernetes, not supported here yet: spec.overhead", ""},
		{"unsupported, deep", podBody + "    securityContext: {windowsOptions: {runAsUserName: x}}\n", "9:23", codeUnsupported, "spec.containers[0].securityContext.windowsOptions", ""},
		{"unsupported value", service + "  type: LoadBalancer\n  ports: [{port: 80}]\n", "6:9", codeUnsupported, "spec.type: LoadBalancer", "supported: ClusterIP, NodePort, ExternalName"},
		{"invalid value", service + "  type: Fancy\n  ports: [{port: 80}]\n", "6:9", codeInvalid, `spec.type: unsupported value: "Fancy"`, ""},
		{"misspelt value", service + "  type: Clusterip\n  ports: [{port: 80}]\n", "6:9", codeInvalid, "unsupported value", `did you mean "ClusterIP"?`},
		{"another scheduler", podBody + "  schedulerName: mine\n", "9:18", codeUnsupported, "spec.schedulerName: mine", "supported: default-scheduler"},
		{"finalizers", config[:len(config)-1] + "\n  finalizers: [a/b]\n", "5:3", codeUnsupported, "metadata.finalizers", ""},
		{"invalid", podHead + "spec:\n  containers:\n  - name: a\n    image: nginx\n    ports:\n    - containerPort: 99999\n", "10:22", codeInvalid, "spec.containers[0].ports[0].containerPort: invalid value: 99999", ""},
		{"invalid, not written", podHead + "spec:\n  containers:\n  - name: a\n", "7:5", codeInvalid, "spec.containers[0].image: required value", ""},
		{"invalid key", config + "data:\n  a b: x\n", "6:8", codeInvalid, "data[a b]: invalid value", ""},
		{"status", podBody + "status:\n  phase: Running\n", "9:1", codeStatusIgnored, "status is observed", "remove it"},
		{"uid", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n  uid: x\n", "5:3", codeServerField, "metadata.uid is set by the system", ""},
		{"list item", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: c}\n  dta: {}\n", "7:3", codeUnknownField, `unknown field "dta"`, `did you mean "data"?`},
		{"list field", "apiVersion: v1\nkind: List\nitem: []\n", "3:1", codeUnknownField, `unknown field "item"`, `did you mean "items"?`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, found := load(t, snapshot("s", "f.yaml", tc.text))
			if len(found) != 1 {
				t.Fatalf("%d findings: %v", len(found), found)
			}
			d := found[0]
			at := fmt.Sprintf("%d:%d", d.Position.Line, d.Position.Column)
			if d.Code != tc.code || tc.at != "" && at != tc.at || !strings.Contains(d.Message, tc.says) || !strings.Contains(d.Suggestion, tc.suggested) || tc.suggested == "" && strings.HasPrefix(d.Suggestion, "did you mean") {
				t.Errorf("got %s\nwant %s %s %q %q", d, tc.at, tc.code, tc.says, tc.suggested)
			}
		})
	}
}

// bomb is a list whose items stand for 50 ** 4 objects.
func bomb() string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: List\nitems:\n- &x0 {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n")
	for i := range 3 {
		fmt.Fprintf(&b, "- &x%d {apiVersion: v1, kind: List, items: [%s]}\n", i+1, strings.Repeat(fmt.Sprintf("*x%d, ", i), 50))
	}
	return b.String()
}

func TestSecretsAreNotShown(t *testing.T) {
	const canary = "hunter2"
	for name, text := range map[string]string{
		"not base64":      secret + "data:\n  p: " + canary + "%\n",
		"not a string":    secret + "stringData:\n  p: 0" + strings.TrimPrefix(canary, "hunter") + "\n  q: " + canary + "\n",
		"unquoted number": secret + "data:\n  p: {a: " + canary + "}\n",
		"no mapping":      secret + "data: " + canary + "\n",
		"asterisk":        secret + "data:\n  p: *" + canary + "\n",
		"JSON":            `{"kind": "Secret", "apiVersion": "v1", "stringData": {"p": "a" "` + canary + `"}}`,
		"syntax":          secret + "data:\n  p: [" + canary + "\n",
		"typo":            secret + "dta: {p: " + canary + "}\n",
		"validation":      secret + "type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: " + canary + "}\n",
		"in a list":       "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: " + canary + "}, x: y}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, found := load(t, snapshot("s", "f.yaml", text))
			if !found.HasErrors() {
				t.Fatal("no findings")
			}
			var b bytes.Buffer
			if err := found.Render(&b); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(b.String()+fmt.Sprint(found), canary) {
				t.Errorf("a secret is shown:\n%s", b.String())
			}
		})
	}
}

func TestRender(t *testing.T) {
	text := "# first\n---\n" + rcHead + "spec:\n  replica: 5\n  selector: {app: web}\n"
	_, found := load(t, snapshot("s", "apps/web.yaml", podHead+"spec: {containers: [{name: a, image: b}]}\n"+text, "b.yaml", config+"data: {a: 1}\n"))
	var b bytes.Buffer
	if err := found.Render(&b); err != nil {
		t.Fatal(err)
	}
	want := `error[E0104]: unknown field "replica"
   --> apps/web.yaml:13:3  (document 2, ReplicationController web)
    |
 13 |   replica: 5
    |   ^^^^^^^ did you mean "replicas"?

error[E0105]: data.a: expected string, found integer 1
  --> b.yaml:5:11  (ConfigMap c)
   |
 5 | data: {a: 1}
   |           ^ write "1"
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAllFindingsAtOnce(t *testing.T) {
	_, found := load(t, snapshot("s",
		"b.yaml", podBody+"  overhead: {}\n  foo: 1\n---\nkind: Pod\n",
		"a.yaml", podBody+"    imagePullPolicy: Sometimes\n    ports: [{containerPort: 0}]\n"))
	var got []string
	for _, d := range found {
		got = append(got, d.Position.String()+" "+d.Code)
	}
	want := []string{"a.yaml:9:22 E0301", "a.yaml:10:29 E0301", "b.yaml:9:3 E0201", "b.yaml:10:3 E0104", "b.yaml:12:1 E0112"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{podYAML, bomb(), secret + "data: {a: b}\n", service + "  type: X\n", "a: &a [*a]\n", "? {a: b}\n: c\n", "{<<: [{a: b}]}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if checkText(data) != nil {
			return
		}
		for _, doc := range split(data) {
			objects, _ := parseDocument(&doc)
			for _, o := range objects {
				o.places.find("spec.containers[0].image")
			}
		}
	})
}
