package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/plumbing/transport/ssh"
)

// The environment that credentials may come from.
const (
	envUser     = "EVENKEEL_GIT_USERNAME"
	envPassword = "EVENKEEL_GIT_PASSWORD"
	envKey      = "EVENKEEL_GIT_SSH_KEY" // a file
)

// connect does something with the remote, with the credentials at hand; where
// those are not enough, with what git's credential helper gives.
func (s *Source) connect(ctx context.Context, do func(transport.AuthMethod) error) error {
	auth, err := authFor(s.place.endpoint, os.Getenv)
	if err != nil {
		return err
	}
	err = do(auth)
	if err != nil && s.place.endpoint.Protocol == "ssh" {
		return refused(err)
	}
	if !errors.Is(err, transport.ErrAuthenticationRequired) || !strings.HasPrefix(s.place.endpoint.Protocol, "http") {
		return err
	}
	helped := credentialHelper(ctx, s.place.endpoint)
	if helped == nil {
		return fmt.Errorf("%w: put credentials into the environment (%s, %s), .netrc or git's credential helper", err, envUser, envPassword)
	}
	return do(helped)
}

// refused says what to do when an ssh server takes no key, for which its client
// has no typed error.
func refused(err error) error {
	if strings.Contains(err.Error(), "unable to authenticate") {
		return fmt.Errorf("%w: the server does not know this key; register its public half there, or name another key file in %s", err, envKey)
	}
	return err
}

// authFor finds credentials: in the URL, in the environment, in .netrc; for
// ssh, a key file, the agent, and then the usual key files. Nil is none. Host
// keys are always checked, against SSH_KNOWN_HOSTS or the known_hosts files.
func authFor(e *transport.Endpoint, env func(string) string) (transport.AuthMethod, error) {
	switch e.Protocol {
	case "http", "https":
		if e.User != "" || e.Password != "" {
			return &http.BasicAuth{Username: e.User, Password: e.Password}, nil
		}
		if password := env(envPassword); password != "" {
			user := env(envUser)
			if user == "" {
				user = "git" // servers that take tokens want some name
			}
			return &http.BasicAuth{Username: user, Password: password}, nil
		}
		if user, password, ok := netrc(netrcPath(env), e.Host); ok {
			return &http.BasicAuth{Username: user, Password: password}, nil
		}
	case "ssh":
		return sshAuth(e, env)
	}
	return nil, nil
}

func sshAuth(e *transport.Endpoint, env func(string) string) (transport.AuthMethod, error) {
	user := e.User
	if user == "" {
		user = "git"
	}
	known := hostKeys(e)
	if e.Password != "" {
		return &ssh.Password{User: user, Password: e.Password, HostKeyCallbackHelper: known}, nil
	}
	if file := env(envKey); file != "" {
		keys, err := ssh.NewPublicKeysFromFile(user, file, "")
		if err != nil {
			return nil, fmt.Errorf("ssh key %s: %w", file, err)
		}
		keys.HostKeyCallbackHelper = known
		return keys, nil
	}
	if env("SSH_AUTH_SOCK") != "" {
		if agent, err := ssh.NewSSHAgentAuth(user); err == nil {
			agent.HostKeyCallbackHelper = known
			return agent, nil
		}
	}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		keys, err := ssh.NewPublicKeysFromFile(user, filepath.Join(env("HOME"), ".ssh", name), "")
		if err == nil {
			keys.HostKeyCallbackHelper = known
			return keys, nil
		}
	}
	return nil, fmt.Errorf("no ssh key: start an agent, name a key file in %s, or put one without passphrase into ~/.ssh", envKey)
}

func netrcPath(env func(string) string) string {
	if path := env("NETRC"); path != "" {
		return path
	}
	return filepath.Join(env("HOME"), ".netrc")
}

// netrc finds a host's login. The format is that of ftp(1); macros are not
// read.
func netrc(path, host string) (user, password string, ok bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", "", false
	}
	words := strings.Fields(string(data))
	matches := false
	for i := 0; i < len(words); i++ {
		value := ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		switch words[i] {
		case "machine", "default":
			if matches && password != "" {
				return user, password, true
			}
			matches = words[i] == "default" || value == host
			user, password = "", ""
		case "login":
			if matches {
				user = value
			}
		case "password":
			if matches {
				password = value
			}
		default:
			continue
		}
		if words[i] != "default" {
			i++
		}
	}
	return user, password, matches && password != ""
}

// credentialHelper asks git's own helpers, without ever prompting. Nil is none.
func credentialHelper(ctx context.Context, e *transport.Endpoint) transport.AuthMethod {
	host := e.Host
	if e.Port != 0 {
		host = fmt.Sprintf("%s:%d", e.Host, e.Port)
	}
	cmd := exec.CommandContext(ctx, "git", "credential", "fill")
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=true", "SSH_ASKPASS=true")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("protocol=%s\nhost=%s\npath=%s\n\n", e.Protocol, host, strings.TrimPrefix(e.Path, "/")))
	out, err := cmd.Output()
	if err != nil {
		return nil // no git, or no helper that knows
	}
	auth := &http.BasicAuth{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), "="); ok {
			switch key {
			case "username":
				auth.Username = value
			case "password":
				auth.Password = value
			}
		}
	}
	if auth.Password == "" {
		return nil
	}
	return auth
}
