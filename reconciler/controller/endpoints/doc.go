// Package endpoints keeps the Endpoints and EndpointSlices of services: where
// the pods are that a service selects, and which of them are ready. Compute is
// its pure core.
//
// The control plane's leader runs it; proxies and DNS read what it writes. It
// touches nothing that it has not made: slices and Endpoints without its label
// are left alone, except that Endpoints made by hand are mirrored into slices.
package endpoints
