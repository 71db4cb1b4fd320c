package manifests

// Limits on what is read. They are far above what people write by hand, and
// low enough that no file can exhaust the machine.
const (
	maxFileBytes     = 32 << 20 // of one file
	maxDocuments     = 20_000   // in one file
	maxDepth         = 64       // of nesting in one document
	maxAliasedNodes  = 10_000   // values reached through aliases in one document
	maxObjectBytes   = 1 << 20  // of one object as JSON; etcd takes 1.5 MiB
	maxListDepth     = 4        // of lists in lists
	maxFindingsInDoc = 100      // after which the rest of a document is not looked at
)
