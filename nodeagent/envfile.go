package nodeagent

import (
	"fmt"
	"strings"
)

// envFileValue looks a variable up in a file of NAME='value' lines, as
// Kubernetes has them: values stand in single quotes, may go over lines and
// mean what they say; a "#" begins a comment; a space after "=" is an empty
// value. What is not of that form is an error, up to where the variable is
// found. Pure.
func envFileValue(text, key string) (value string, found bool, err error) {
	line := 0
	for text != "" {
		line++
		var current string
		current, text, _ = strings.Cut(text, "\n")
		current = strings.TrimLeft(strings.TrimSuffix(current, "\r"), " \t")
		if current == "" || current[0] == '#' {
			continue
		}
		name, rest, ok := strings.Cut(current, "=")
		switch {
		case !ok:
			return "", false, fmt.Errorf("line %d: no \"=\"", line)
		case name == "" || strings.TrimRight(name, " \t") != name:
			return "", false, fmt.Errorf("line %d: \"=\" must follow a name at once", line)
		case rest != "" && (rest[0] == ' ' || rest[0] == '\t'): // an empty value, which counts as none
			if name == key {
				return "", false, nil
			}
			continue
		case !strings.HasPrefix(rest, "'"):
			return "", false, fmt.Errorf("line %d: the value must stand in single quotes", line)
		}
		quoted := rest[1:] + "\n" + text
		value, after, closed := strings.Cut(quoted, "'")
		if !closed {
			return "", false, fmt.Errorf("line %d: the quote is not closed", line)
		}
		line += strings.Count(value, "\n")
		var tail string
		tail, text, _ = strings.Cut(after, "\n")
		if tail = strings.TrimLeft(tail, " \t\r"); tail != "" && tail[0] != '#' {
			return "", false, fmt.Errorf("line %d: something follows the quote", line)
		}
		if name == key {
			return value, value != "", nil
		}
	}
	return "", false, nil
}
