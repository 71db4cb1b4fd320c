package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// account is where a pod finds who it is.
const account = "/var/run/secrets/kubernetes.io/serviceaccount"

// api asks the API as clients in pods do: at the address from the environment,
// trusting the certificate that was mounted, with the token beside it.
func api(args []string) error {
	if len(args) != 2 {
		return errors.New("want METHOD PATH")
	}
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(filepath.Join(account, "ca.crt"))
	if err != nil {
		return err
	}
	roots.AppendCertsFromPEM(pem)
	token, err := os.ReadFile(filepath.Join(account, "token"))
	if err != nil {
		return err
	}
	host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	if name := os.Getenv("API_HOST"); name != "" {
		host = name
	}
	req, err := http.NewRequest(args[0], "https://"+host+args[1], nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var answer struct {
		Kind, Message string
		Items         []struct{ Metadata struct{ Name string } }
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return err
	}
	fmt.Println(res.StatusCode, answer.Kind, answer.Message)
	for _, item := range answer.Items {
		fmt.Println(item.Metadata.Name)
	}
	return nil
}
