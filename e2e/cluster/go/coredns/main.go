// The cluster's DNS server: CoreDNS with the few plugins that a test cluster needs.
//
// CoreDNS' own main package pulls in every plugin, and with them the client libraries of three clouds: five hundred packages more to
// compile from an empty cache. The order below is the order in which plugins see a query; it follows CoreDNS' own list.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	dnsserver.Directives = []string{"bind", "ready", "errors", "log", "cache", "template", "hosts", "kubernetes"}
	coremain.Run()
}
