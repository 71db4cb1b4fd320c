package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Admin may do everything, as with kubeadm.
var Admin = Subject{Name: "kubernetes-admin", Groups: []string{"system:masters"}}

// AdminLife is how long the certificate in a kubeconfig is valid if nothing
// else is asked for.
const AdminLife = 90 * 24 * time.Hour

// clusterName is the cluster's and the context's name in a kubeconfig.
const clusterName = "evenkeel"

// Kubeconfig returns a kubeconfig for a user at a server, given as a URL.
func (a *Authority) Kubeconfig(server string, user Subject, life time.Duration) ([]byte, error) {
	pair, err := a.Issue(user, life)
	if err != nil {
		return nil, err
	}
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters[clusterName] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: a.bundle}
	cfg.AuthInfos[user.Name] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.Certificate, ClientKeyData: pair.Key}
	cfg.Contexts[clusterName] = &clientcmdapi.Context{Cluster: clusterName, AuthInfo: user.Name}
	cfg.CurrentContext = clusterName
	return clientcmd.Write(*cfg)
}

// kubeconfigCheck is how often the end of a kubeconfig's certificate is looked
// at, by the clock on the wall.
const kubeconfigCheck = time.Hour

// WriteKubeconfig makes the file the admin's kubeconfig for a server, readable
// by its owner alone. A file that is one already, and good for long enough, is
// left as it is: people set their namespace in it.
func (a *Authority) WriteKubeconfig(path, server string) error {
	if a.isGood(path, server) {
		return nil
	}
	text, err := a.Kubeconfig(server, Admin, AdminLife)
	if err != nil {
		return err
	}
	return replaceFile(path, text)
}

// KeepKubeconfig renews what WriteKubeconfig wrote, until ctx ends. failed is
// told of what could not be written; it is tried again.
func (a *Authority) KeepKubeconfig(ctx context.Context, path, server string, failed func(error)) {
	ticker := time.NewTicker(kubeconfigCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := a.WriteKubeconfig(path, server); err != nil {
			failed(err)
		}
	}
}

func (a *Authority) isGood(path, server string) bool {
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		return false
	}
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return false
	}
	cluster, user := cfg.Clusters[clusterName], cfg.AuthInfos[Admin.Name]
	if cluster == nil || user == nil || cluster.Server != server || !bytes.Equal(cluster.CertificateAuthorityData, a.bundle) {
		return false
	}
	return a.remains(user.ClientCertificateData) > AdminLife/3
}

// remains is how long a certificate that this authority issued stays valid.
func (a *Authority) remains(text []byte) time.Duration {
	block, _ := pem.Decode(text)
	if block == nil {
		return 0
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return 0
	}
	now := a.now()
	if _, err := cert.Verify(x509.VerifyOptions{Roots: a.roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return 0
	}
	return cert.NotAfter.Sub(now)
}

// replaceFile writes a file of mode 0600 whole or not at all.
func replaceFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".kubeconfig-*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		if removed := os.Remove(file.Name()); !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
