package manifests

import (
	"slices"
	"strings"
)

// Nearest returns the candidate that somebody who wrote word most likely
// meant, or "" when none is near. Of equally near ones it is the first.
func Nearest(word string, candidates []string) string { return nearest(word, candidates) }

// nearest returns the candidate that somebody who wrote word most likely
// meant, or "" when none is near. Candidates are tried in order.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", 1+max(1, len(word)/3)
	for _, c := range candidates {
		if strings.EqualFold(c, word) {
			return c
		}
		if abs(len(word)-len(c)) >= bestDistance {
			continue
		}
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if best != "" {
		return best
	}
	// "cmd" for "command", "env" for "environment": one within the other.
	for _, c := range candidates {
		if len(word) >= 4 && len(c) >= 4 && (strings.HasPrefix(strings.ToLower(c), strings.ToLower(word)) || strings.HasPrefix(strings.ToLower(word), strings.ToLower(c))) {
			return c
		}
	}
	return ""
}

// habits are words of other tools, such as compose files, for our fields.
var habits = map[string]string{
	"cmd": "command", "entrypoint": "command", "environment": "env", "enviroment": "env", "workdir": "workingDir", "working_dir": "workingDir",
	"mounts": "volumeMounts", "healthcheck": "livenessProbe", "count": "replicas", "instances": "replicas", "scale": "replicas",
}

// nearestField is nearest for the name of a field.
func nearestField(word string, fields []string) string {
	if field, ok := habits[strings.ToLower(word)]; ok && slices.Contains(fields, field) {
		return field
	}
	return nearest(word, fields)
}

// distance counts insertions, deletions, replacements and swaps of
// neighbours (optimal string alignment).
func distance(a, b string) int {
	prev2, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, prev2
	}
	return prev[len(b)]
}

func abs(n int) int { return max(n, -n) }
