package manifests

import (
	"strconv"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/api/resource"
)

// suffixes are what people write behind the number of a quantity, in lower
// case, and how Kubernetes writes it.
var suffixes = map[string]string{
	"": "", "k": "k", "ki": "Ki", "m": "M", "mi": "Mi", "g": "G", "gi": "Gi", "t": "T", "ti": "Ti", "p": "P", "pi": "Pi",
	"kb": "k", "kib": "Ki", "mb": "M", "mib": "Mi", "gb": "G", "gib": "Gi", "tb": "T", "tib": "Ti", "b": "", "bytes": "",
	"core": "", "cores": "", "cpu": "", "cpus": "", "millicores": "m", "millicpu": "m",
}

// quantityHint answers the usual mistakes in writing a quantity.
func quantityHint(s string) string {
	text := strings.ReplaceAll(strings.ReplaceAll(s, " ", ""), ",", ".")
	end := strings.IndexFunc(text, unicode.IsLetter)
	if end < 0 {
		end = len(text)
	}
	tries := []string{text}
	if suffix, ok := suffixes[strings.ToLower(text[end:])]; ok {
		tries = append(tries, text[:end]+suffix)
	}
	for _, try := range tries {
		if _, err := resource.ParseQuantity(try); err == nil && try != s {
			return "did you mean " + strconv.Quote(try) + "?"
		}
	}
	return `write a number with a suffix such as "m", "Mi" or "Gi"`
}
