package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "EC PRIVATE KEY"
)

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

// blocks returns the contents of a PEM text by their type, in order.
func blocks(text []byte) map[string][][]byte {
	out := map[string][][]byte{}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return out
		}
		out[block.Type] = append(out[block.Type], block.Bytes)
	}
}

func parseKeys(text []byte) ([]*ecdsa.PrivateKey, error) {
	var keys []*ecdsa.PrivateKey
	for _, der := range blocks(text)[keyBlock] {
		key, err := x509.ParseECPrivateKey(der)
		if err != nil {
			return nil, errors.New("not a private key") // its text may say too much
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("no private key")
	}
	return keys, nil
}

// parseAuthority takes the first certificate and the first key as those that
// sign.
func (a *Authority) parseAuthority(text []byte) error {
	keys, err := parseKeys(text)
	if err != nil {
		return err
	}
	a.key = keys[0]
	a.roots = x509.NewCertPool()
	for _, der := range blocks(text)[certificateBlock] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
		if a.cert == nil {
			a.cert = cert
		}
		a.roots.AddCert(cert)
		a.bundle = append(a.bundle, encodeCertificate(der)...)
	}
	if a.cert == nil {
		return errors.New("no certificate")
	}
	public, err := x509.MarshalPKIXPublicKey(a.key.Public())
	if err != nil || !bytes.Equal(public, a.cert.RawSubjectPublicKeyInfo) {
		return errors.New("the key is not that of the certificate")
	}
	return nil
}
