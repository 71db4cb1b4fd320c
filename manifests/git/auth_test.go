package git

import (
	"crypto/ed25519"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing/transport/ssh"
	cryptossh "golang.org/x/crypto/ssh"
)

func TestSSHKeys(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	block, err := cryptossh.MarshalPrivateKey(private, "")
	must(t, err)
	home := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(home, ".ssh"), 0o700))
	key := filepath.Join(home, "key")
	must(t, os.WriteFile(key, pem.EncodeToMemory(block), 0o600))
	must(t, os.WriteFile(filepath.Join(home, ".ssh", "id_rsa"), pem.EncodeToMemory(block), 0o600))
	pl, err := parsePlace("deploy@example.org:a.git")
	must(t, err)

	for name, tc := range map[string]struct {
		env   map[string]string
		wrong string
	}{
		"key file":    {map[string]string{envKey: key}, ""},
		"no key file": {map[string]string{envKey: key + "x"}, "ssh key " + key + "x"},
		"home":        {map[string]string{"HOME": home}, ""},
		"nothing":     {map[string]string{"HOME": t.TempDir()}, "no ssh key"},
	} {
		auth, err := authFor(pl.endpoint, func(name string) string { return tc.env[name] })
		switch {
		case tc.wrong != "":
			if err == nil || !strings.Contains(err.Error(), tc.wrong) {
				t.Errorf("%s: got %v, %v", name, auth, err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		default:
			if keys, ok := auth.(*ssh.PublicKeys); !ok || keys.User != "deploy" {
				t.Errorf("%s: got %v", name, auth)
			}
		}
	}
}
