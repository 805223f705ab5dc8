// What programs in Go do with guests by DigitalOcean's go-libvirt, which speaks libvirt's protocol itself.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	host := libvirt.NewWithDialer(dialers.NewLocal(dialers.WithSocket(os.Args[1])))
	check(host.ConnectToURI(libvirt.QEMUSystem))
	kind, err := host.ConnectGetType()
	check(err)
	fmt.Println("type:", kind)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	events, err := host.LifecycleEvents(ctx)
	check(err)
	guest, err := host.DomainDefineXML(
		"<domain type='kvm'><name>go</name><memory unit='MiB'>64</memory>" +
			"<vcpu>1</vcpu><os><type>hvm</type></os></domain>")
	check(err)
	check(host.DomainCreate(guest))
	for event := range events {
		if event.Dom.Name == "go" && event.Event == int32(libvirt.DomainEventStarted) {
			fmt.Println("event: started")
			break
		}
	}
	state, _, err := host.DomainGetState(guest, 0)
	check(err)
	fmt.Println("running:", libvirt.DomainState(state) == libvirt.DomainRunning)
	flags := libvirt.ConnectListDomainsActive | libvirt.ConnectListDomainsInactive
	guests, _, err := host.ConnectListAllDomains(1, flags)
	check(err)
	fmt.Println("guests:", len(guests))
	stats, err := host.ConnectGetAllDomainStats([]libvirt.Domain{guest}, uint32(libvirt.DomainStatsState), 0)
	check(err)
	fmt.Println("statistics:", stats[0].Params[0].Field, stats[0].Params[0].Value.I)
	pool, err := host.StoragePoolLookupByName("default-pool")
	check(err)
	volume, err := host.StorageVolCreateXML(pool,
		"<volume><name>go.img</name><capacity>1048576</capacity></volume>", 0)
	check(err)
	content := bytes.Repeat([]byte("0123456789abcdef"), 65536)
	check(host.StorageVolUpload(volume, bytes.NewReader(content), 0, 0, 0))
	var back bytes.Buffer
	check(host.StorageVolDownload(volume, &back, 0, 0, 0))
	fmt.Println("volume comes back:", bytes.Equal(back.Bytes(), content))
	// It never says that a download was enough.
	for i := 0; i < 40; i++ {
		back.Reset()
		check(host.StorageVolDownload(volume, &back, 0, 4096, 0))
	}
	fmt.Println("downloads go on:", back.Len())
	check(host.StorageVolDelete(volume, 0))
	_, err = host.DomainLookupByName("nobody")
	fmt.Println("no such guest:", libvirt.IsNotFound(err))
	check(host.DomainDestroy(guest))
	check(host.DomainUndefineFlags(guest, 0))
	check(host.Disconnect())
}
