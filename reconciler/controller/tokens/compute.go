package tokens

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// Token is one that a pod asks for.
type Token struct {
	Audience string // "" is the API
	Seconds  int64
}

func (t Token) name() string { return schema.TokenName(t.Audience, t.Seconds) }

// Wanted are the tokens that a pod's projected volumes ask for, each once.
func Wanted(pod *corev1.Pod) []Token {
	var out []Token
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Projected == nil {
			continue
		}
		for _, source := range pod.Spec.Volumes[i].Projected.Sources {
			if source.ServiceAccountToken == nil {
				continue
			}
			token := Token{Audience: source.ServiceAccountToken.Audience, Seconds: int64(time.Hour / time.Second)}
			if s := source.ServiceAccountToken.ExpirationSeconds; s != nil {
				token.Seconds = *s
			}
			if !slices.Contains(out, token) {
				out = append(out, token)
			}
		}
	}
	return out
}

// accountOf is the service account that a pod runs as.
func accountOf(pod *corev1.Pod) schema.Key {
	name := pod.Spec.ServiceAccountName
	if name == "" {
		name = "default"
	}
	return schema.ServiceAccounts.Key(pod.Namespace, name)
}

// oldest is how old a token gets at most, as the kubelet has it.
const oldest = 24 * time.Hour

// claims are what a token says of itself.
type claims struct {
	Expiry     int64 `json:"exp"`
	Issued     int64 `json:"iat"`
	Kubernetes struct {
		Account struct {
			UID string `json:"uid"`
		} `json:"serviceaccount"`
	} `json:"kubernetes.io"`
}

// goodUntil is when the first of a pod's tokens, as they are stored, is to be
// renewed: when four fifths of its life are over. False means that they are
// not what the pod asks for, or of an account that is gone.
func goodUntil(stored []byte, pod *corev1.Pod, account *corev1.ServiceAccount) (time.Time, bool) {
	if stored == nil {
		return time.Time{}, false
	}
	obj, err := schema.Decode(stored)
	secret, ok := obj.(*corev1.Secret)
	wanted := Wanted(pod)
	if err != nil || !ok || len(secret.Data) != len(wanted) {
		return time.Time{}, false
	}
	var first time.Time
	for _, want := range wanted {
		c, ok := read(secret.Data[want.name()])
		if !ok || c.Kubernetes.Account.UID != string(account.UID) {
			return time.Time{}, false
		}
		life := time.Duration(c.Expiry-c.Issued) * time.Second
		renew := time.Unix(c.Issued, 0).Add(min(life*4/5, oldest))
		if first.IsZero() || renew.Before(first) {
			first = renew
		}
	}
	return first, true
}

// read takes a token's word for what it is: it is one of our own.
func read(token []byte) (claims, bool) {
	var c claims
	parts := strings.Split(string(token), ".")
	if len(parts) != 3 {
		return c, false
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	return c, err == nil && json.Unmarshal(text, &c) == nil
}
