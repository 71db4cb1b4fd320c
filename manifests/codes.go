package manifests

// Codes of findings. They are stable: one is never given another meaning.
const (
	codeUnreadable = "E0001" // the file could not be read
	codeTooBig     = "E0002" // file, documents or object above a limit
	codeNotUTF8    = "E0003"
	codeLFS        = "E0004" // a Git LFS pointer in place of the content

	codeSyntax       = "E0101" // not YAML or JSON
	codeDuplicateKey = "E0102"
	codeWrongType    = "E0103"
	codeUnknownField = "E0104"
	codeUnquoted     = "E0105" // a string field given an unquoted number or boolean
	codeBadValue     = "E0106" // right type, but no quantity, duration, time, base64
	codeAliases      = "E0107" // too much reached through aliases
	codeDepth        = "E0108"
	codeTag          = "E0109" // a tag that Kubernetes does not read
	codeKey          = "E0110" // a key that is no string
	codeNoObject     = "E0111" // a document that is no mapping
	codeIncomplete   = "E0112" // no apiVersion, kind or name
	codeUnknownKind  = "E0113"
	codeVersion      = "E0114" // a known kind with another apiVersion
	codeGenerateName = "E0115"
	codeNamespace    = "E0116" // a namespace on a cluster-wide kind
	codeSystemKind   = "E0117" // a kind that only the system makes
	codeNoManifest   = "E0118" // a known file that is no manifest: kustomization, chart

	// Codes of what manifests/kustomize cannot render.
	CodeKustomization        = "E0121" // kustomize refuses it
	CodeKustomizeRemote      = "E0122" // something that would have to be fetched
	CodeKustomizeOutside     = "E0123" // a path out of the source or of the kustomization
	CodeKustomizeMissing     = "E0124" // a file or directory that is not there
	CodeKustomizeProgram     = "E0125" // something that may start a program
	CodeKustomizationLimited = "W0505" // files below a kustomization that are left out

	codeUnsupported     = "E0201" // a field or value
	codeUnsupportedKind = "E0202"

	codeInvalid = "E0301" // Kubernetes' validation

	codeDeclaredTwice = "E0401"

	codeStatusIgnored = "W0501"
	codeServerField   = "W0502" // metadata that only a server sets

	// CodeLinkSkipped and CodeSubmoduleSkipped are for sources, which leave
	// such entries out of their snapshots.
	CodeLinkSkipped      = "W0503"
	CodeSubmoduleSkipped = "W0504"

	// Codes of checks across objects, which manifests/check makes. These, and
	// no others, can be turned off.
	CodeSelectsNothing   = "W0601"
	CodeNoNamedPort      = "W0602"
	CodeNoConfigMap      = "W0603"
	CodeNoSecret         = "W0604"
	CodeNoKey            = "E0605" // of a declared config map or secret
	CodeNodePortTwice    = "E0606"
	CodeClusterIPTwice   = "E0607"
	CodeHostPort         = "W0608"
	CodePodTooBig        = "W0609"
	CodeNamespaceNowhere = "W0610" // not declared; the cluster is not known
	CodeNoNamespace      = "E0611" // neither declared nor in the cluster
	CodeIgnoresNothing   = "W0612" // the annotation names no check
	CodeNoClaim          = "W0613" // a pod's persistent volume claim
	CodeNoAccount        = "W0614" // a pod's service account
)

// IsCheck reports whether a code is of a check across objects, which a person
// can turn off.
func IsCheck(code string) bool { return len(code) == 5 && code[1:3] == "06" }
