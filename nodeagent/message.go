package nodeagent

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// How much of what a container left counts (Kubernetes: "Customizing the
// termination message").
const (
	maxMessages      = 12 << 10 // of all containers of a pod
	maxFallbackBytes = 2048
	maxFallbackLines = 80
	// fallbackRead is enough for the lines with what is written before each.
	fallbackRead = maxFallbackBytes + maxFallbackLines*64
)

// terminationMessage is what an exited container left in its file or, if it
// failed, asked for that and left nothing, the end of its log.
func (w *worker) terminationMessage(c *runtime.Status) string {
	message := w.agent.cfg.Volumes.ReadTerminationLog(w.uid, c.Name, c.Attempt)
	if w.pod == nil {
		return message
	}
	policy := containerNamed(w.pod, c.Name).TerminationMessagePolicy
	if message == "" && c.ExitCode != 0 && policy == corev1.TerminationMessageFallbackToLogsOnError {
		message = logTail(LogPath(w.agent.cfg.LogDir, w.pod, c.Name, c.Attempt))
	}
	share := maxMessages / max(1, len(w.pod.Spec.InitContainers)+len(w.pod.Spec.Containers))
	if len(message) > share {
		message = string(bytes.ToValidUTF8([]byte(message[:share]), nil))
	}
	return message
}

// LogPath is the log file of one start of a container.
func LogPath(logDir string, pod *corev1.Pod, container string, attempt int) string {
	return filepath.Join(PodLogDir(logDir, pod.Namespace, pod.Name, string(pod.UID)), container, strconv.Itoa(attempt)+".log")
}

// logTail is the end of a log, without what was written before each line.
func logTail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > fallbackRead {
		_, _ = f.Seek(-fallbackRead, io.SeekEnd)
	}
	data, err := io.ReadAll(io.LimitReader(f, fallbackRead))
	if err != nil {
		return ""
	}
	return tailOf(data)
}

// tailOf is what the last lines of a log say. Pure.
func tailOf(data []byte) string {
	lines := bytes.SplitAfter(data, []byte("\n"))
	if len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	lines = lines[max(0, len(lines)-maxFallbackLines):]
	var out []byte
	for _, line := range lines {
		out = append(out, content(line)...)
	}
	return string(bytes.ToValidUTF8(out[max(0, len(out)-maxFallbackBytes):], nil))
}

// content is a line of a log in CRI's format without time, stream and tag; one
// in another format as it is.
func content(line []byte) []byte {
	fields := bytes.SplitN(line, []byte(" "), 4)
	if len(fields) != 4 || string(fields[1]) != "stdout" && string(fields[1]) != "stderr" {
		return line
	}
	switch string(fields[2]) {
	case "F":
		return fields[3]
	case "P":
		return bytes.TrimSuffix(fields[3], []byte("\n"))
	}
	return line
}
