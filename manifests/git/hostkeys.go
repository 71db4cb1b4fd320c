package git

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/ssh"
	cryptossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// hostKeys checks the key of an ssh server against the known_hosts files. The
// kinds of key that those know of the host are asked for first, as ssh(1)
// does: a server that has several would else show another one.
func hostKeys(e *transport.Endpoint) ssh.HostKeyCallbackHelper {
	db, err := ssh.NewKnownHostsDb()
	if err != nil {
		return ssh.HostKeyCallbackHelper{HostKeyCallback: func(_ string, _ net.Addr, key cryptossh.PublicKey) error {
			return fmt.Errorf("%w; %s", err, howToTrust(e, key))
		}}
	}
	algorithms := db.HostKeyAlgorithms(dialed(e))
	for _, other := range cryptossh.SupportedAlgorithms().HostKeys {
		if !slices.Contains(algorithms, other) {
			algorithms = append(algorithms, other)
		}
	}
	check := db.HostKeyCallback()
	return ssh.HostKeyCallbackHelper{
		HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(host string, addr net.Addr, key cryptossh.PublicKey) error {
			return explained(check(host, addr, key), e, key)
		},
	}
}

// explained says what to do about a host key that is refused.
func explained(err error, e *transport.Endpoint, key cryptossh.PublicKey) error {
	var refused *knownhosts.KeyError
	switch {
	case !errors.As(err, &refused):
		return err
	case len(refused.Want) == 0:
		return fmt.Errorf("%w; %s", err, howToTrust(e, key))
	}
	old := refused.Want[0]
	return fmt.Errorf("%w: the host shows %s %s, but %s:%d has another: somebody may be listening in; if the host's key did change, take the line out and add the new one",
		err, key.Type(), cryptossh.FingerprintSHA256(key), old.Filename, old.Line)
}

func howToTrust(e *transport.Endpoint, key cryptossh.PublicKey) string {
	scan := "ssh-keyscan " + e.Host
	if host, port, err := net.SplitHostPort(dialed(e)); err == nil {
		scan = fmt.Sprintf("ssh-keyscan -p %s %s", port, host)
	}
	return fmt.Sprintf("the host shows %s %s: if that is what it is said to have, add it: %s >> ~/.ssh/known_hosts",
		key.Type(), cryptossh.FingerprintSHA256(key), scan)
}

// dialed is the address that go-git connects to, by ~/.ssh/config.
func dialed(e *transport.Endpoint) string {
	host, port := e.Host, strconv.Itoa(ssh.DefaultPort)
	if e.Port > 0 {
		port = strconv.Itoa(e.Port)
	}
	if ssh.DefaultSSHConfig != nil {
		if name := ssh.DefaultSSHConfig.Get(e.Host, "Hostname"); name != "" {
			host = name
			if number := ssh.DefaultSSHConfig.Get(e.Host, "Port"); number != "" {
				port = number
			}
		}
	}
	return net.JoinHostPort(host, port)
}
