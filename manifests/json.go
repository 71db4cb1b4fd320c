package manifests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonEscapes rewrites the escapes in which JSON is no YAML: an escaped slash,
// and a character given as a pair of surrogates. Text that is not JSON is left
// alone. It may shift what follows on the line by a few columns.
func jsonEscapes(text []byte) []byte {
	differs := bytes.Contains(text, []byte(`\/`)) || bytes.Contains(text, []byte(`\ud`)) || bytes.Contains(text, []byte(`\uD`))
	if !differs || !json.Valid(bytes.TrimPrefix(text, []byte("---"))) {
		return text
	}
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		n := bytes.IndexByte(text, '\\')
		if n < 0 || n+1 >= len(text) {
			break
		}
		out, text = append(out, text[:n]...), text[n:]
		written, read := jsonEscape(text)
		out, text = append(out, written...), text[read:]
	}
	return append(out, text...)
}

// jsonEscape returns one escape as YAML has it, and its length in JSON.
func jsonEscape(text []byte) (written []byte, read int) {
	switch high := codeUnit(text); {
	case text[1] == '/':
		return text[1:2], 2
	case utf16.IsSurrogate(high):
		read = 6
		r := utf16.DecodeRune(high, codeUnit(text[read:]))
		if r != utf8.RuneError {
			read = 12
		}
		return fmt.Appendf(nil, `\U%08x`, r), read
	}
	return text[:2], 2
}

// codeUnit reads "\uXXXX", or returns 0.
func codeUnit(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0
	}
	v, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(v)
}
