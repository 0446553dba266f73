// A runtime on libcni: drives one configuration through ADD, CHECK, ADD again, DEL and DEL,
// and ends with a message and status 1 at the first thing that is not as the spec says.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types040 "github.com/containernetworking/cni/pkg/types/040"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

const alreadyAttached = 4 // the spec's "invalid necessary environment variables"

type runtime struct {
	ctx  context.Context
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
	conf *libcni.RuntimeConf
}

func main() {
	if len(os.Args) != 5 {
		fail("usage: %s CONFLIST PLUGINS CACHE NETNS", os.Args[0])
	}
	list, err := libcni.ConfListFromFile(os.Args[1])
	must(err, "conflist")
	r := runtime{
		ctx:  context.Background(),
		cni:  libcni.NewCNIConfigWithCacheDir([]string{os.Args[2]}, os.Args[3], nil),
		list: list,
		conf: &libcni.RuntimeConf{ContainerID: "libcni", NetNS: os.Args[4], IfName: "eth0"},
	}
	_, err = r.cni.ValidateNetworkList(r.ctx, list)
	must(err, "validate")
	r.add()
	r.check()
	r.addAgain()
	r.check()
	for range []int{1, 2} {
		must(r.cni.DelNetworkList(r.ctx, list, r.conf), "DEL")
	}
}

// The result must be of the configuration's version, by libcni's own type for it.
func (r *runtime) add() {
	result, err := r.cni.AddNetworkList(r.ctx, r.list, r.conf)
	must(err, "ADD")
	if result.Version() != r.list.CNIVersion {
		fail("ADD: result of version %s, not %s", result.Version(), r.list.CNIVersion)
	}
	switch result := result.(type) {
	case *types100.Result:
		r.checkAddresses100(result)
	case *types040.Result:
		r.checkAddresses040(result)
	default:
		fail("ADD: result of type %T", result)
	}
}

func (r *runtime) checkAddresses100(result *types100.Result) {
	if len(result.IPs) != 2 || len(result.Routes) != 2 {
		fail("ADD: %d addresses and %d routes", len(result.IPs), len(result.Routes))
	}
	for _, ip := range result.IPs {
		if ip.Interface == nil || result.Interfaces[*ip.Interface].Sandbox != r.conf.NetNS {
			fail("ADD: address %s is not on the container's interface", ip.String())
		}
	}
}

func (r *runtime) checkAddresses040(result *types040.Result) {
	if len(result.IPs) != 2 || len(result.Routes) != 2 {
		fail("ADD: %d addresses and %d routes", len(result.IPs), len(result.Routes))
	}
	for _, ip := range result.IPs {
		wanted := "6"
		if ip.Address.IP.To4() != nil {
			wanted = "4"
		}
		if ip.Version != wanted {
			fail("ADD: address %s has version %q", ip.Address.String(), ip.Version)
		}
		if ip.Interface == nil || result.Interfaces[*ip.Interface].Sandbox != r.conf.NetNS {
			fail("ADD: address %s is not on the container's interface", ip.Address.String())
		}
	}
}

// libcni itself refuses CHECK for what is older than 0.4.0.
func (r *runtime) check() {
	err := r.cni.CheckNetworkList(r.ctx, r.list, r.conf)
	if r.list.CNIVersion >= "0.4.0" {
		must(err, "CHECK")
	} else if err == nil {
		fail("CHECK: went through in version %s", r.list.CNIVersion)
	}
}

func (r *runtime) addAgain() {
	_, err := r.cni.AddNetworkList(r.ctx, r.list, r.conf)
	var refused *types.Error
	if !errors.As(err, &refused) || refused.Code != alreadyAttached {
		fail("second ADD: %v", err)
	}
}

func must(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func fail(format string, words ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", words...)
	os.Exit(1)
}
