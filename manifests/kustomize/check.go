package kustomize

import (
	"fmt"
	"path"
	"reflect"
	"regexp"
	"strings"

	"sigs.k8s.io/kustomize/api/types"

	"github.com/evenkeel/evenkeel/manifests"
)

// fieldNames are the fields of a kustomization.
var fieldNames = func() []string {
	var names []string
	for typ, i := reflect.TypeFor[types.Kustomization](), 0; i < typ.NumField(); i++ {
		if name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}()

// check holds a kustomization to what can be rendered from the source alone,
// and notes which others it includes.
func (t *tree) check(n *node) {
	k := &n.kust
	for _, f := range []struct {
		name string
		used bool
	}{
		{"generators", len(k.Generators) > 0},
		{"transformers", len(k.Transformers) > 0},
		{"validators", len(k.Validators) > 0},
		{"helmCharts", len(k.HelmCharts) > 0},
		{"helmGlobals", k.HelmGlobals != nil},
	} {
		if f.used {
			t.report(manifests.CodeKustomizeProgram, n.find(f.name), f.name+" are not rendered: they may start programs", "commit what they make")
		}
	}
	for _, ref := range k.Resources {
		t.checkResource(n, ref)
	}
	for _, ref := range k.Components {
		t.checkResource(n, ref)
	}
	for _, ref := range fileRefs(k) {
		t.checkFile(n, ref)
	}
}

// fileRefs are the files that a kustomization reads itself.
func fileRefs(k *types.Kustomization) []string {
	refs := append(append([]string(nil), k.Crds...), k.Configurations...)
	//lint:ignore SA1019 people have it
	for _, p := range append(append([]types.Patch(nil), k.Patches...), k.PatchesJson6902...) {
		refs = append(refs, p.Path)
	}
	//lint:ignore SA1019 people have it
	for _, p := range k.PatchesStrategicMerge {
		if !strings.Contains(string(p), "\n") { // otherwise it is the patch itself
			refs = append(refs, string(p))
		}
	}
	for _, r := range k.Replacements {
		refs = append(refs, r.Path)
	}
	refs = append(refs, k.OpenAPI["path"])
	var generators []types.KvPairSources
	for _, g := range k.ConfigMapGenerator {
		generators = append(generators, g.KvPairSources)
	}
	for _, g := range k.SecretGenerator {
		generators = append(generators, g.KvPairSources)
	}
	for _, g := range generators {
		refs = append(refs, g.EnvSources...)
		refs = append(refs, g.FileSources...)
	}
	return refs
}

// checkResource checks what resources, bases and components name: a file, or
// the directory of another kustomization.
func (t *tree) checkResource(n *node, ref string) {
	if isRemote(ref) {
		t.remote(n, ref)
		return
	}
	to, ok := inside(n.dir, ref)
	if !ok {
		t.outOf(n, ref)
		return
	}
	if t.nodes[to] != nil {
		n.includes = append(n.includes, to)
		return
	}
	if _, isDir := t.dirs[to]; isDir {
		t.report(manifests.CodeKustomizeMissing, n.find(ref), fmt.Sprintf("the directory %q has no kustomization", to), "add a kustomization.yaml to it, or name its files")
		return
	}
	t.checkFile(n, ref)
}

// checkFile checks the name of a file, or "key=file", or a directory of files.
func (t *tree) checkFile(n *node, ref string) {
	if ref == "" {
		return
	}
	name := ref
	if _, value, ok := strings.Cut(ref, "="); ok {
		name = value
	}
	if isRemoteFile(ref) || isRemoteFile(name) {
		t.remote(n, ref)
		return
	}
	to, ok := inside(n.dir, name)
	if !ok {
		t.outOf(n, ref)
		return
	}
	if _, ok := inside(".", relative(n.dir, to)); !ok {
		t.report(manifests.CodeKustomizeOutside, n.find(ref), fmt.Sprintf("%q does not lie below the kustomization, and kustomize reads no other files", name), "give its directory a kustomization.yaml, and include that")
		return
	}
	_, isFile := t.files[to]
	_, isDir := t.dirs[to]
	if !isFile && !isDir {
		t.report(manifests.CodeKustomizeMissing, n.find(ref), fmt.Sprintf("there is no file %q in the source", to), t.nearest(to))
	}
}

// nearest suggests a file of the same directory.
func (t *tree) nearest(missing string) string {
	near := manifests.Nearest(path.Base(missing), t.dirs[path.Dir(missing)])
	if near == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", near)
}

func (t *tree) remote(n *node, ref string) {
	t.report(manifests.CodeKustomizeRemote, n.find(ref), fmt.Sprintf("%q lies outside of the source, and nothing is fetched to render", ref), "commit a copy of it, and name that")
}

func (t *tree) outOf(n *node, ref string) {
	t.leadsOut = true
	t.report(manifests.CodeKustomizeOutside, n.find(ref), fmt.Sprintf("%q leads out of the source", ref), "name the directory that holds both as the source, or a git repository with --path")
}

// relative is a cleaned path seen from a directory, both within the source.
func relative(dir, to string) string {
	if dir == "." {
		return to
	}
	if rest, ok := strings.CutPrefix(to, dir+"/"); ok || to == dir {
		return rest
	}
	return "../" + to
}

// hosted is what kustomize may take for a repository elsewhere, even where a
// directory has that name: it reads any scheme, "git@host:path",
// "git@host/path" and "github.com/path" so. Some of what matches it would take
// for local; nothing that it would fetch is left out.
var hosted = regexp.MustCompile(`(?i)^github\.com(/|$)|:|^[^/]*@`)

func isRemote(ref string) bool { return hosted.MatchString(ref) }

// isRemoteFile: kustomize fetches files by http and https alone.
func isRemoteFile(ref string) bool {
	ref = strings.ToLower(strings.TrimSpace(ref))
	return strings.HasPrefix(ref, "http:") || strings.HasPrefix(ref, "https:") || strings.Contains(ref, "://")
}
