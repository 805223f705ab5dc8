//! virsh's commands, one by one, on the test driver: what is not there says so.

use super::test_driver::Driver;

/// What a command does: it works and says this, or complains of this.
enum Expect {
    Says(&'static str),
    Fails(&'static str),
}
use Expect::{Fails, Says};

/// Threads that wait for events, and so poll for nothing.
const THREADS: &str = "Domain: 'threads'
  iothread.count=2
  iothread.1.poll-max-ns=0
  iothread.1.poll-grow=0
  iothread.1.poll-shrink=0
  iothread.2.poll-max-ns=0
  iothread.2.poll-grow=0
  iothread.2.poll-shrink=0

";

/// `DIR` is the test's own directory.
const COMMANDS: &[(&str, Expect)] = &[
    ("version --daemon", Says("Compiled against library: libvirt 9.0.0")),
    ("hostname", Says("test")),
    ("nodeinfo", Says("CPU model:           x86_64")),
    ("nodecpumap", Says("CPUs present:   16")),
    ("nodecpustats", Says("user:                    10000000000")),
    ("nodecpustats 0", Says("user:                     1000000000")),
    ("nodecpustats 99", Fails("the host has no CPU 99 that is on")),
    ("nodememstats", Says("total  :             16777216 KiB")),
    ("node-memory-tune", Says("shm_pages_to_scan")),
    ("freecell --all", Says("0:   12582912 KiB")),
    ("node-memory-tune --shm-pages-to-scan 200", Says("")),
    ("node-memory-tune", Says("200")),
    ("allocpages 2M 1 --cellno 0", Says("")),
    ("allocpages 1G 1", Fails("this host has no huge pages of 1048576 KiB")),
    ("freepages --all", Says("4KiB: 3145728")),
    ("freepages --cellno 0 --pagesize 2M", Says("2048KiB: 1024")),
    ("freepages --cellno 7 --pagesize 2M", Fails("there is no cell 7")),
    ("capabilities", Says("<capabilities>")),
    ("domcapabilities", Says("<domainCapabilities>")),
    ("maxvcpus", Says("64")),
    ("sysinfo", Says("<entry name='product'>Test host</entry>")),
    ("cpu-models x86_64", Says("kvm64")),
    ("cpu-baseline cpu.xml", Says("<model fallback='forbid'>qemu64</model>")),
    ("cpu-compare cpu.xml", Says("Host CPU is a superset of CPU described in cpu.xml")),
    ("hypervisor-cpu-baseline cpu.xml", Says("<model fallback='forbid'>qemu64</model>")),
    ("hypervisor-cpu-compare cpu.xml", Says("superset")),
    ("cpu-compare newer.xml", Fails("is incompatible with host CPU")),
    ("cpu-compare newer.xml --error", Fails("is incompatible with host CPU: the host lacks")),
    ("nodesevinfo", Fails("not supported by the connection driver: guests' memory is not")),
    ("nodesuspend mem 60", Fails("not supported by the connection driver: a host that sleeps")),
    ("list --all", Says("Id   Name   State")),
    ("domstate test --reason", Says("running (booted)")),
    ("domstats test", Says("Domain: 'test'")),
    ("domid test", Says("1")),
    ("domuuid test", Says("6695eb01-f6a4-8304-79aa-97f2502e193f")),
    ("dominfo test", Says("Id:             1")),
    ("domcontrol test", Says("ok")),
    ("dommemstat test", Says("actual 2097152")),
    ("domblklist test", Says("Target   Source")),
    ("domblkinfo test vda", Says("Capacity:       10737418240")),
    ("domblkinfo test --all", Says("Target   Capacity      Allocation   Physical")),
    ("domblkstat test vda", Says("vda rd_req 1000")),
    ("domblkstat test vda", Says("vda wr_total_times 500000000")),
    ("domblkerror test", Says("No errors found")),
    ("domblkthreshold test vda 1G", Says("")),
    ("domstats test --block", Says("block.0.threshold=1073741824")),
    ("domblkthreshold test vda 0", Says("")),
    ("domblkthreshold test vda[9] 1G", Fails("disk vda has no image \"vda[9]\"")),
    ("domblkthreshold test vdz 1G", Fails("has no disk \"vdz\"")),
    ("domiflist test", Says("Interface   Type      Source    Model    MAC")),
    ("domifaddr test", Says("Name       MAC address          Protocol     Address")),
    ("domifaddr test --source agent", Says("Name       MAC address          Protocol     Address")),
    ("domifstat test vnet0", Says("vnet0 rx_bytes 64000")),
    ("domif-getlink test vnet0", Says("vnet0 up")),
    ("domif-setlink test vnet0 down", Says("Device updated successfully")),
    ("domif-setlink test vnet0 up", Says("Device updated successfully")),
    ("domifaddr test --source arp", Says("192.168.122.2/0")),
    ("domtime test", Says("Time: 1700000000")),
    ("domtime test --now", Says("")),
    ("domhostname test", Says("test")),
    ("domfsinfo test", Says("Mountpoint   Name   Type   Target")),
    ("domfsfreeze test", Says("Froze 1 filesystem(s)")),
    ("domfsthaw test", Says("Thawed 1 filesystem(s)")),
    ("domfstrim test", Says("")),
    ("guestinfo test", Says("user.count          : 1")),
    ("guestvcpus test", Says("vcpus          : 0-1")),
    ("guestvcpus test --cpulist 1 --disable", Says("")),
    ("guestvcpus test --cpulist 0 --disable", Fails("the guest cannot do without processor 0")),
    ("guestvcpus test --cpulist 7 --enable", Fails("the guest has no processor 7")),
    ("vcpucount test --guest", Says("2")),
    ("setvcpus test 1 --guest", Says("")),
    ("setvcpus test 3 --guest", Fails("the guest cannot use 3 processors")),
    ("guest-agent-timeout test --timeout 5", Says("")),
    ("domhostname test", Says("test")),
    ("guest-agent-timeout test --timeout 0", Says("")),
    ("guest-agent-timeout test", Says("")),
    ("guest-agent-timeout test --timeout -1", Says("")),
    ("guest-agent-timeout test --timeout -3", Fails("an agent has -2 (as long as it takes)")),
    ("qemu-agent-command test {\"execute\":\"guest-ping\"}", Says("{\"return\":{}}")),
    (
        "qemu-monitor-command test --hmp info",
        Fails("unknown procedure: 1 (QEMU_DOMAIN_MONITOR_COMMAND)"),
    ),
    ("get-user-sshkeys test root", Says("ssh-ed25519 AAAA")),
    ("set-user-sshkeys test root --file keys", Says("")),
    ("set-user-sshkeys test root --file keys --remove", Says("")),
    ("set-user-password test root secret", Says("Password set successfully for root in test")),
    ("domdisplay test", Says("vnc://127.0.0.1:0")),
    ("vncdisplay test", Says("127.0.0.1:0")),
    ("screenshot test screen.png", Says("Screenshot saved to screen.png, with type of image/png")),
    ("send-key test KEY_A", Says("")),
    ("send-key test --codeset usb 4 --holdtime 1", Says("")),
    ("send-key test --codeset win32 0x1b 0x41", Says("")),
    ("send-key test --codeset usb 9999", Fails("there is no key \"9999\"")),
    (
        "send-process-signal test 1 SIGTERM",
        Fails("this function is not supported by the connection driver: signals reach"),
    ),
    ("inject-nmi test", Says("")),
    ("dumpxml test", Says("<domain type='test' id='1'>")),
    ("desc test", Says("No description for domain: test")),
    ("desc test a-description --config", Says("Domain description updated successfully")),
    ("desc test --config", Says("a-description")),
    ("desc test", Says("No description for domain: test")),
    ("desc test a-title --title --live", Says("Domain title updated successfully")),
    ("desc test --title", Says("a-title")),
    ("desc test --title --config", Says("A guest that is made up")),
    ("metadata test urn:x", Fails("Requested metadata element is not present")),
    (
        "metadata test urn:x --key x --set <a><b>1</b></a> --config --live",
        Says("Metadata modified"),
    ),
    ("metadata test urn:x --config", Says("<a><b>1</b></a>")),
    ("dumpxml test", Says("<x:a xmlns:x='urn:x'><x:b>1</x:b></x:a>")),
    ("metadata test urn:x --key x:y --set <a/> --config", Fails("is no prefix")),
    ("metadata test urn:x --key x --set <a> --config", Fails("the element cannot be kept")),
    ("metadata test urn:x --remove --config --live", Says("Metadata removed")),
    ("metadata test urn:x", Fails("Requested metadata element is not present")),
    (
        "domxml-from-native qemu-argv args",
        Fails("not supported by the connection driver: there is no QEMU"),
    ),
    ("domlaunchsecinfo test", Fails("Operation not supported: guests' memory is not encrypted")),
    ("perf test", Says("cpu_cycles     : disabled")),
    (
        "perf test --enable cpu_cycles",
        Fails("Operation not supported: Manor counts no perf events"),
    ),
    ("vcpucount test", Says("maximum      config         2")),
    ("vcpuinfo test", Says("VCPU:           0")),
    ("vcpupin test", Says("VCPU   CPU Affinity")),
    ("vcpupin test 0 1", Says("")),
    ("emulatorpin test", Says("emulator: CPU Affinity")),
    (
        "cpu-stats test",
        Fails("this function is not supported by the connection driver: figures of si"),
    ),
    ("schedinfo test", Says("Scheduler      : posix")),
    ("memtune test", Says("hard_limit     : unlimited")),
    ("blkiotune test", Says("weight         : 0")),
    ("numatune test", Says("numa_mode      : strict")),
    ("numatune test --mode interleave --nodeset 0 --config", Says("")),
    ("numatune test --config", Says("numa_nodeset   : 0")),
    ("numatune test --nodeset 0 --live", Fails("cannot change while a guest runs")),
    ("blkdeviotune test vda", Says("total_bytes_sec: 0")),
    ("domiftune test vnet0", Says("inbound.average: 0")),
    ("iothreadinfo test", Says("No IOThreads found for the domain")),
    ("iothreadadd test 1 --config", Says("")),
    ("iothreadinfo test --config", Says(" 1 ")),
    ("iothreadadd test 1 --config", Fails("the domain has an io thread 1 already")),
    ("iothreadadd test 2 --live", Fails("the threads of a running guest are those")),
    ("iothreadpin test 1 0 --config", Says("")),
    ("iothreadpin test 2 0 --config", Fails("the domain has no io thread 2")),
    (
        "iothreadset test 1 --poll-max-ns 1",
        Fails("Operation not supported: io threads here wait for events"),
    ),
    ("iothreaddel test 1 --config", Says("")),
    ("iothreaddel test 1 --config", Fails("the domain has no io thread 1")),
    ("domstats test --iothread", Says("Domain: 'test'\n  iothread.count=0\n")),
    ("create threads.xml", Says("Domain 'threads' created from threads.xml")),
    ("domstats threads --iothread", Says(THREADS)),
    ("destroy threads", Says("Domain 'threads' destroyed")),
    ("setmaxmem test 8G --config", Says("")),
    ("setmem test 1G --live", Says("")),
    ("setvcpus test 1 --config", Says("")),
    ("setvcpu test 1 --enable --config", Says("")),
    ("setvcpu test 1 --disable --config", Says("")),
    ("vcpucount test --current --config", Says("1")),
    ("setvcpu test 0 --disable --config", Fails("vCPU 0 is always there")),
    ("setvcpu test 2 --enable --config", Fails("there is no vCPU 2: it has at most 2")),
    ("setvcpu test 1 --disable --live", Fails("cannot change while the guest runs")),
    ("set-lifecycle-action test crash restart --config --live", Says("")),
    ("dumpxml test", Says("<on_crash>restart</on_crash>")),
    (
        "set-lifecycle-action test crash coredump-destroy",
        Fails("is not given the action \"coredump-destroy\""),
    ),
    ("autostart test", Says("Domain 'test' marked as autostarted")),
    ("autostart test --disable", Says("Domain 'test' unmarked as autostarted")),
    ("suspend test", Says("Domain 'test' suspended")),
    ("resume test", Says("Domain 'test' resumed")),
    ("reset test", Says("Domain 'test' was reset")),
    ("reboot test", Says("Domain 'test' is being rebooted")),
    ("dompmsuspend test mem", Fails("guests have no ACPI sleep state S3")),
    ("dompmsuspend test disk", Says("Domain 'test' successfully suspended")),
    ("dompmsuspend test disk --duration 9", Fails("argument unsupported: a guest sleeps until")),
    ("dompmwakeup test", Fails("the domain is not suspended by its guest")),
    ("domjobinfo test", Says("Job type:         None")),
    ("domjobabort test", Fails("Requested operation is not valid: no job is active on the domain")),
    ("domstats test --dirtyrate", Says("dirtyrate.calc_status=0")),
    ("domdirtyrate-calc test --seconds 2", Says("Start to calculate domain's memory dirty rate")),
    ("domstats test --dirtyrate", Says("dirtyrate.megabytes_per_second=64")),
    (
        "domdirtyrate-calc test --mode=dirty-ring",
        Fails("argument unsupported: the mode is dirty-bitmap"),
    ),
    ("domdirtyrate-calc test --seconds 61", Fails("a dirty rate is measured for 1 to 60 s")),
    ("migrate-getspeed test", Says("8796093022207")),
    ("migrate-setspeed test 100", Says("")),
    ("migrate-getspeed test", Says("100")),
    ("migrate-setspeed test 9000000000000", Fails("a guest moves with up to 8796093022207 MiB/s")),
    ("migrate-setspeed test 1 --postcopy", Fails("domain is not being migrated")),
    ("migrate-getmaxdowntime test", Fails("domain is not being migrated")),
    ("migrate-setmaxdowntime test 1", Fails("domain is not being migrated")),
    ("migrate-compcache test", Fails("Operation not supported: memory on its way to another host")),
    ("migrate-postcopy test", Fails("post-copy can only be started while outgoing migration")),
    ("dump test test.core --memory-only", Says("Domain 'test' dumped to test.core")),
    ("save test test.save", Says("Domain 'test' saved to test.save")),
    ("save-image-dumpxml test.save", Says("<domain type='test'>")),
    ("restore test.save", Says("Domain restored from test.save")),
    ("managedsave test", Says("Domain 'test' state saved by libvirt")),
    ("managedsave-dumpxml test", Says("<domain type='test'>")),
    ("managedsave-remove test", Says("Removed managedsave image for domain 'test'")),
    ("start test", Says("Domain 'test' started")),
    ("managedsave test", Says("Domain 'test' state saved by libvirt")),
    ("start test", Says("Domain 'test' started")),
    (
        "attach-interface test network default --model virtio --live",
        Says("Interface attached successfully"),
    ),
    (
        "detach-interface test network --mac 52:54:00:7e:57:01 --live",
        Says("Interface detached successfully"),
    ),
    ("attach-device test disk.xml --live", Says("Device attached successfully")),
    ("update-device test disk.xml --live", Says("Device updated successfully")),
    ("detach-device test disk.xml --live", Says("Device detached successfully")),
    ("attach-disk test more.qcow2 vdc --live", Says("Disk attached successfully")),
    ("detach-disk test vdc --live", Says("Disk detached successfully")),
    ("blockresize test vda 12G", Says("Block device 'vda' is resized")),
    ("blockpull test vda", Fails("invalid argument: disk vda: nothing lies below its image")),
    (
        "blockcommit test vda --active --pivot",
        Fails("invalid argument: disk vda: the base does not lie below the top"),
    ),
    ("blockjob test vda", Says("No current block job for vda")),
    ("snapshot-create-as test one", Says("Domain snapshot one created")),
    ("snapshot-list test", Says(" one ")),
    ("snapshot-info test one", Says("Name:           one")),
    ("snapshot-dumpxml test one", Says("<domainsnapshot>")),
    ("snapshot-parent test one", Fails("snapshot 'one' has no parent")),
    ("snapshot-current test", Says("<domainsnapshot>")),
    ("snapshot-revert test one", Says("Domain snapshot one reverted")),
    ("snapshot-delete test one", Says("Domain snapshot one deleted")),
    ("checkpoint-create-as test check", Fails("guests of the test driver have nothing to back up")),
    ("checkpoint-create test", Fails("guests of the test driver have nothing to back up")),
    ("checkpoint-list test", Says("Name   Creation Time")),
    ("backup-begin test", Fails("disk vda is in no file")),
    (
        "backup-dumpxml test",
        Fails("Requested operation is not valid: domain \"test\" has no backup under wa"),
    ),
    ("shutdown test", Says("Domain 'test' is being shutdown")),
    ("define guest.xml", Says("Domain 'guest' defined from guest.xml")),
    ("create guest2.xml", Says("Domain 'guest2' created from guest2.xml")),
    ("create guest3.xml --autodestroy", Says("Domain 'guest3' created from guest3.xml")),
    ("domrename guest renamed", Says("Domain successfully renamed")),
    ("undefine renamed", Says("Domain 'renamed' has been undefined")),
    ("destroy guest2", Says("Domain 'guest2' destroyed")),
    ("net-list --all", Says("Name      State    Autostart   Persistent")),
    ("net-info default", Says("Name:           default")),
    ("net-dumpxml default", Says("<network>")),
    ("net-uuid default", Says("9b7f1685-c7ba-5d14-827f-9e941d6e5a1b")),
    (
        "net-dhcp-leases default",
        Says("Expiry Time           MAC address         Protocol   IP addr"),
    ),
    ("net-port-list default", Says("UUID")),
    ("net-port-create default port.xml", Fails("unknown procedure: 406 (NETWORK_PORT_CREATE_XML)")),
    ("net-define net.xml", Says("Network lab defined from net.xml")),
    ("net-create net2.xml", Says("Network lab2 created from net2.xml")),
    ("net-start lab", Says("Network lab started")),
    ("net-autostart lab", Says("Network lab marked as autostarted")),
    (
        "net-update lab add ip-dhcp-host host.xml --live --config",
        Says("Updated network lab persistent config and live state"),
    ),
    (
        "net-update lab add portgroup group.xml --live --config",
        Says("Updated network lab persistent config and live state"),
    ),
    (
        "net-update lab add forward-interface forward.xml --config",
        Fails("section 7 (forward-interface) of a network"),
    ),
    ("net-dumpxml lab", Says("<portgroup name='fast'")),
    ("net-destroy lab", Says("Network lab destroyed")),
    ("net-undefine lab", Says("Network lab has been undefined")),
    ("iface-list --all", Says("Name   State    MAC Address")),
    ("iface-dumpxml eth1", Says("<interface type='ethernet' name='eth1'>")),
    ("iface-mac eth1", Says("aa:bb:cc:dd:ee:ff")),
    ("iface-name aa:bb:cc:dd:ee:ff", Says("eth1")),
    ("iface-begin", Fails("not supported by the connection driver: the host's interfaces are")),
    ("iface-commit", Fails("not supported by the connection driver: the host's interfaces are")),
    ("iface-rollback", Fails("not supported by the connection driver: the host's interfaces are")),
    (
        "iface-define iface.xml",
        Fails("not supported by the connection driver: the host's interfaces are"),
    ),
    (
        "iface-start eth1",
        Fails("not supported by the connection driver: the host's interfaces are"),
    ),
    (
        "iface-destroy eth1",
        Fails("not supported by the connection driver: the host's interfaces are"),
    ),
    (
        "iface-undefine eth1",
        Fails("not supported by the connection driver: the host's interfaces are"),
    ),
    (
        "iface-bridge eth1 br0",
        Fails("not supported by the connection driver: the host's interfaces are"),
    ),
    ("iface-unbridge br0", Fails("Interface not found: the host has no interface \"br0\"")),
    ("nwfilter-list", Says("UUID                                   Name")),
    ("nwfilter-dumpxml clean-traffic", Says("<filter name='clean-traffic' chain='root'>")),
    ("nwfilter-define filter.xml", Says("Network filter own defined from filter.xml")),
    ("nwfilter-undefine own", Says("Network filter own undefined")),
    (
        "nwfilter-undefine clean-traffic",
        Fails("Requested operation is not valid: filter \"clean-traffic\" is one that Man"),
    ),
    ("nwfilter-binding-list", Says("Port Dev")),
    (
        "nwfilter-binding-create binding.xml",
        Fails("not supported by the connection driver: a filter is bound"),
    ),
    (
        "nwfilter-binding-dumpxml vnet0",
        Fails("Network filter binding not found: no filter is bound"),
    ),
    (
        "nwfilter-binding-delete vnet0",
        Fails("Network filter binding not found: no filter is bound"),
    ),
    ("nodedev-list --tree", Says("computer")),
    ("nodedev-dumpxml computer", Says("<device>")),
    ("nodedev-info net_eth1_aa_bb_cc_dd_ee_ff", Says("Name:           net_eth1_aa_bb_cc_dd_ee_ff")),
    (
        "nodedev-create device.xml",
        Fails("not supported by the connection driver: the host's devices are shown"),
    ),
    (
        "nodedev-define device.xml",
        Fails("not supported by the connection driver: the host's devices are shown"),
    ),
    (
        "nodedev-start computer",
        Fails("not supported by the connection driver: the host's devices are shown"),
    ),
    (
        "nodedev-autostart computer",
        Fails("not supported by the connection driver: the host's devices are shown"),
    ),
    (
        "nodedev-destroy computer",
        Fails("not supported by the connection driver: the host's devices are shown"),
    ),
    (
        "nodedev-undefine computer",
        Fails("not supported by the connection driver: the host's devices are shown"),
    ),
    (
        "nodedev-detach pci_0000_00_19_0",
        Fails("not supported by the connection driver: guests are given no devices"),
    ),
    (
        "nodedev-reattach pci_0000_00_19_0",
        Fails("not supported by the connection driver: guests are given no devices"),
    ),
    (
        "nodedev-reset pci_0000_00_19_0",
        Fails("not supported by the connection driver: guests are given no devices"),
    ),
    ("secret-define secret.xml", Says("Secret 11111111-2222-3333-4444-555555555556 created")),
    ("secret-list", Says("UUID                                   Usage")),
    (
        "secret-dumpxml 11111111-2222-3333-4444-555555555556",
        Says("<secret ephemeral='no' private='no'>"),
    ),
    (
        "secret-set-value 11111111-2222-3333-4444-555555555556 --base64 aGVsbG8=",
        Says("Secret value set"),
    ),
    ("secret-get-value 11111111-2222-3333-4444-555555555556", Says("aGVsbG8=")),
    (
        "secret-undefine 11111111-2222-3333-4444-555555555556",
        Says("Secret 11111111-2222-3333-4444-555555555556 deleted"),
    ),
    ("find-storage-pool-sources-as netfs localhost", Fails("sources of pools of type")),
    ("find-storage-pool-sources logical", Says("<sources>")),
    ("pool-capabilities", Says("<pool type='logical' supported='yes'>")),
    ("pool-list --all", Says("Name           State    Autostart")),
    ("pool-info default-pool", Says("Name:           default-pool")),
    ("pool-dumpxml default-pool", Says("<pool type='dir'>")),
    ("pool-uuid default-pool", Says("dfe224cb-28fb-8dd0-c4b2-64eb3f0f4566")),
    ("pool-name dfe224cb-28fb-8dd0-c4b2-64eb3f0f4566", Says("default-pool")),
    ("pool-refresh default-pool", Says("Pool default-pool refreshed")),
    ("pool-define-as more dir --target DIR/pool", Says("Pool more defined")),
    ("pool-build more", Says("Pool more built")),
    ("pool-start more", Says("Pool more started")),
    ("pool-autostart more", Says("Pool more marked as autostarted")),
    ("vol-create-as more a.img 1M", Says("Vol a.img created")),
    ("vol-create more volume.xml", Says("Vol c.img created from volume.xml")),
    (
        "vol-create-from more volume2.xml a.img --inputpool more",
        Says("Vol d.img created from input vol a.img"),
    ),
    ("vol-list more --details", Says("a.img")),
    ("vol-info a.img --pool more", Says("Name:           a.img")),
    ("vol-dumpxml a.img --pool more", Says("<volume type='file'>")),
    ("vol-path a.img --pool more", Says("")),
    ("vol-key a.img --pool more", Says("")),
    ("vol-name DIR/pool/a.img", Says("a.img")),
    ("vol-pool DIR/pool/a.img", Says("more")),
    ("vol-upload a.img guest.xml --pool more", Says("")),
    ("vol-download a.img down --pool more", Says("")),
    ("vol-resize a.img 2M --pool more", Says("Size of volume 'a.img' successfully changed to 2M")),
    ("vol-clone a.img b.img --pool more", Says("Vol b.img cloned from a.img")),
    ("vol-wipe b.img --pool more", Says("Vol b.img wiped")),
    ("vol-wipe b.img --pool more --algorithm dod", Says("Vol b.img wiped")),
    ("vol-wipe b.img --pool more --algorithm trim", Says("Vol b.img wiped")),
    ("vol-download b.img holes --pool more --sparse", Says("")),
    ("vol-delete b.img --pool more", Says("Vol b.img deleted")),
    ("pool-destroy more", Says("Pool more destroyed")),
    ("pool-delete more", Fails("is not empty")),
    ("pool-undefine more", Says("Pool more has been undefined")),
    ("pool-create-as again dir --target DIR/pool2 --build", Says("Pool again created")),
    ("pool-destroy again", Says("Pool again destroyed")),
    ("qemu-attach 1", Fails("unknown procedure: 2 (QEMU_DOMAIN_ATTACH)")),
];

fn domain(name: &str) -> String {
    format!(
        "<domain type='kvm'><name>{name}</name><memory unit='MiB'>64</memory><os><type>hvm</type></os>\
         </domain>"
    )
}

fn volume(name: &str) -> String {
    format!("<volume><name>{name}</name><capacity>1048576</capacity></volume>")
}

/// What the commands read.
fn files() -> Vec<(&'static str, String)> {
    let disk = "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>\
                <source file='/nowhere/more.qcow2'/><target dev='vdb' bus='virtio'/></disk>";
    let lab = "<network><name>lab</name><ip address='10.9.0.1' prefix='24'><dhcp>\
               <range start='10.9.0.2' end='10.9.0.9'/></dhcp></ip></network>";
    let secret = "<secret><uuid>11111111-2222-3333-4444-555555555556</uuid><usage type='volume'>\
                  <volume>/v</volume></usage></secret>";
    let others = [
        ("cpu.xml", "<cpu match='exact'><model>qemu64</model></cpu>"),
        ("newer.xml", "<cpu><model>Haswell</model></cpu>"),
        ("args", "x"),
        ("keys", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 a@b\n"),
        ("disk.xml", disk),
        ("net.xml", lab),
        ("net2.xml", "<network><name>lab2</name></network>"),
        ("host.xml", "<host mac='52:54:00:00:00:99' ip='10.9.0.5'/>"),
        ("group.xml", "<portgroup name='fast'/>"),
        ("forward.xml", "<interface dev='eth0'/>"),
        ("port.xml", "<networkport/>"),
        ("iface.xml", "<interface type='ethernet' name='eth9'/>"),
        ("filter.xml", "<filter name='own' chain='root'/>"),
        ("binding.xml", "<filterbinding/>"),
        ("device.xml", "<device/>"),
        ("secret.xml", secret),
    ];
    let domains = [("guest.xml", "guest"), ("guest2.xml", "guest2"), ("guest3.xml", "guest3")];
    let domains = domains.map(|(file, name)| (file, domain(name)));
    let threads = domain("threads").replace("<os>", "<iothreads>2</iothreads><os>");
    let volumes = [("volume.xml", volume("c.img")), ("volume2.xml", volume("d.img"))];
    others
        .map(|(file, text)| (file, text.to_owned()))
        .into_iter()
        .chain(domains)
        .chain([("threads.xml", threads)])
        .chain(volumes)
        .collect()
}

#[test]
fn each_command_does_what_is_written_down() {
    let driver = Driver::new();
    for (file, text) in files() {
        driver.write(file, &text);
    }
    let home = driver.home().display().to_string();
    let mut wrong = Vec::new();
    for (line, expected) in COMMANDS {
        let outcome = driver.virsh(&line.replace("DIR", &home));
        let said = format!("{}{}", outcome.out, outcome.err);
        let is_as_expected = match expected {
            Says(words) => outcome.status == 0 && said.contains(words),
            Fails(words) => outcome.status != 0 && said.contains(words),
        };
        if !is_as_expected {
            wrong.push(format!("{line}: status {}, {said}", outcome.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
