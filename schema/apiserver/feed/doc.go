// Package feed gives the API's watchers what changes: one history of the last
// events of each kind, from the control plane's mirror, which any number of
// watchers read at their own pace. An event is encoded once a format for all of
// them, and a watcher that falls too far behind is closed and holds up nobody.
//
// schema/apiserver/storage calls it. It never writes, and keeps no copy of the
// cluster beside the mirror's.
package feed
