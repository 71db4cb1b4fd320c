// Package apiserver serves the registries as a Kubernetes REST API, so that
// kubectl, client-go and what is built on them work unchanged: k8s.io/apiserver
// over schema/apiserver/storage.
//
// cmd runs it. It is a face, not a hop: nothing inside Evenkeel goes through it,
// and it adds no rule about objects to those of the registries.
package apiserver
