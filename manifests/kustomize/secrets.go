package kustomize

import (
	"bytes"
	"path"
	"strconv"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
)

// mayHoldSecrets reports whether a line of a kustomization may be one that
// nobody is to see: it generates secrets, or patches them.
func mayHoldSecrets(text []byte) bool {
	return bytes.Contains(bytes.ToLower(text), []byte("secret"))
}

// shows reports whether a message shows what a kustomization, or one that it
// includes, makes secrets of.
func (t *tree) shows(message, dir string) bool {
	for _, d := range t.closure(dir) {
		for _, g := range t.nodes[d].kust.SecretGenerator {
			for _, secret := range t.secrets(d, g.KvPairSources) {
				quoted := strconv.Quote(secret)
				if strings.Contains(message, secret) || strings.Contains(message, quoted[1:len(quoted)-1]) {
					return true
				}
			}
		}
	}
	return false
}

// secrets are the texts that a secret is made of: values, and lines of files.
func (t *tree) secrets(dir string, from types.KvPairSources) []string {
	lines := append([]string(nil), from.LiteralSources...)
	for _, ref := range append(append([]string(nil), from.EnvSources...), from.FileSources...) {
		if _, name, ok := strings.Cut(ref, "="); ok {
			ref = name
		}
		if f, ok := t.files[path.Join(dir, ref)]; ok {
			data, _ := f.Read() // what cannot be read cannot be shown
			lines = append(lines, strings.Split(string(data), "\n")...)
		}
	}
	var out []string
	for _, line := range lines {
		_, value, _ := strings.Cut(line, "=")
		for _, s := range []string{strings.TrimSpace(line), strings.Trim(strings.TrimSpace(value), `"'`)} {
			if s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}
