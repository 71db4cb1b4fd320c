package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// The keys in the store. Each value is PEM: of the authority its certificate
// and its key, of service accounts one key or more, of which the first signs.
// Further certificates behind the authority's own are trusted as well.
const (
	authorityPath = schema.PKIPrefix + "ca"
	tokensPath    = schema.PKIPrefix + "serviceaccounts"
)

// authorityLife is how long a new authority is valid.
const authorityLife = 10 * 365 * 24 * time.Hour

// skew is how far the clocks of two machines may be apart: certificates are
// valid from that long ago.
const skew = time.Hour

// Store is what of a registry.Store is needed.
type Store interface {
	Get(ctx context.Context, key string) (registry.KV, error)
	Commit(ctx context.Context, txn registry.Txn) (int64, error)
}

// Authority issues certificates that the cluster trusts. It is safe for use by
// many at once.
type Authority struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	bundle []byte // PEM of all certificates that are trusted
	roots  *x509.CertPool
	tokens []*ecdsa.PrivateKey
	now    func() time.Time
}

// Open reads the cluster's authority; the first process of a cluster makes it.
// A store that does not answer is asked again until ctx ends. now is time.Now
// if it is nil.
func Open(ctx context.Context, store Store, now func() time.Time) (*Authority, error) {
	if now == nil {
		now = time.Now
	}
	a := &Authority{now: now}
	stored, err := readOrMake(ctx, store, authorityPath, func() ([]byte, error) { return newAuthority(now()) })
	if err != nil {
		return nil, err
	}
	if err := a.parseAuthority(stored); err != nil {
		return nil, fmt.Errorf("%s: %w", authorityPath, err)
	}
	stored, err = readOrMake(ctx, store, tokensPath, newTokenKey)
	if err != nil {
		return nil, err
	}
	if a.tokens, err = parseKeys(stored); err != nil {
		return nil, fmt.Errorf("%s: %w", tokensPath, err)
	}
	return a, nil
}

// Bundle is the certificates that clients of the cluster trust, as PEM.
func (a *Authority) Bundle() []byte { return a.bundle }

// TokenKeys are the keys of service account tokens: all are good for checking
// a token, the first one signs.
func (a *Authority) TokenKeys() []*ecdsa.PrivateKey { return a.tokens }

// retry is how long a store that does not answer is left alone.
const retry = 500 * time.Millisecond

// readOrMake returns the value of a key. Where there is none it stores a new
// one, unless another process was faster.
func readOrMake(ctx context.Context, store Store, path string, make func() ([]byte, error)) ([]byte, error) {
	for {
		value, err := tryReadOrMake(ctx, store, path, make)
		switch {
		case err == nil:
			return value, nil
		case errors.Is(err, registry.ErrConflict):
			continue
		case !errors.Is(err, registry.ErrUnavailable):
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", path, err)
		case <-time.After(retry):
		}
	}
}

func tryReadOrMake(ctx context.Context, store Store, path string, make func() ([]byte, error)) ([]byte, error) {
	kv, err := store.Get(ctx, path)
	if !errors.Is(err, registry.ErrNotFound) {
		return kv.Value, err
	}
	value, err := make()
	if err != nil {
		return nil, err
	}
	_, err = store.Commit(ctx, registry.Txn{
		Guards: []registry.Guard{{Key: path, Mod: registry.Absent}},
		Ops:    []registry.Op{registry.Put(path, value)},
	})
	return value, err
}

func newTokenKey() ([]byte, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	return encodeKey(key)
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// newAuthority makes a certificate that signs itself, and its key.
func newAuthority(now time.Time) ([]byte, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "evenkeel"},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	encoded, err := encodeKey(key)
	return append(encodeCertificate(der), encoded...), err
}
