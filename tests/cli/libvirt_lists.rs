//! What libvirt's clients list beside guests, networks and storage: the host's devices and
//! interfaces, filters, secrets.

use super::libvirt::Libvirt;
use super::test_driver::Driver;

#[test]
fn virsh_shows_the_devices_of_the_host_as_a_tree() {
    let libvirt = Libvirt::new();
    let names = libvirt.ok("nodedev-list");
    let has = |name: &str| names.lines().any(|line| line.trim() == name);
    assert!(has("computer") && has("net_lo_00_00_00_00_00_00"), "{names}");
    let tree = libvirt.ok("nodedev-list --tree");
    assert!(tree.starts_with("computer\n") && tree.contains("+- net_lo_"), "{tree}");
    let nets = libvirt.ok("nodedev-list --cap net");
    assert!(nets.lines().all(|name| name.trim().starts_with("net_")), "{nets}");
    let manor = |words: &[&str]| libvirt.rig.manor(words.iter().copied()).out;
    assert!(manor(&["nodedev-list", "--cap", "net"]).contains("net_lo_00_00_00_00_00_00\n"));
    assert!(manor(&["nodedev-dumpxml", "computer"]).contains("<capability type='system'>"));
    let computer = libvirt.ok("nodedev-dumpxml computer");
    assert!(computer.contains("<capability type='system'>"), "{computer}");
    let lo = libvirt.ok("nodedev-dumpxml net_lo_00_00_00_00_00_00");
    assert!(lo.contains("<interface>lo</interface>"), "{lo}");
    assert!(lo.contains("<parent>computer</parent>"), "{lo}");
    let missing = libvirt.refused("nodedev-dumpxml pci_9999_00_00_0");
    assert!(missing.contains("Node device not found"), "{missing}");
}

#[test]
fn virsh_shows_the_interfaces_of_the_host_and_changes_none() {
    let libvirt = Libvirt::new();
    let list = libvirt.ok("iface-list --all");
    assert!(list.contains(" lo "), "{list}");
    assert_eq!(libvirt.ok("iface-mac lo"), "00:00:00:00:00:00");
    let lo = libvirt.ok("iface-dumpxml lo");
    assert!(lo.starts_with("<interface type='ethernet' name='lo'>"), "{lo}");
    let manor = |words: &[&str]| libvirt.rig.manor(words.iter().copied()).out;
    assert!(manor(&["iface-list", "--all"]).contains(" lo "), "{list}");
    assert_eq!(manor(&["iface-dumpxml", "lo"]).trim(), lo);
    let destroy = libvirt.refused("iface-destroy lo");
    assert!(destroy.contains("not supported by the connection driver"), "{destroy}");
    assert!(libvirt.refused("iface-dumpxml nowhere").contains("Interface not found"));
}

#[test]
fn virsh_shows_the_filters_that_interfaces_can_name() {
    let libvirt = Libvirt::new();
    let list = libvirt.ok("nwfilter-list");
    assert!(list.contains("clean-traffic") && list.contains("allow-dhcp-server"), "{list}");
    let manor = |words: &[&str]| libvirt.rig.manor(words.iter().copied()).out;
    assert_eq!(manor(&["nwfilter-list"]).trim().lines().count(), list.lines().count());
    let filter = libvirt.ok("nwfilter-dumpxml clean-traffic");
    assert_eq!(manor(&["nwfilter-dumpxml", "clean-traffic"]).trim(), filter);
    assert!(filter.starts_with("<filter name='clean-traffic' chain='root'>"), "{filter}");
    assert!(filter.contains("<filterref filter='no-mac-spoofing'/>"), "{filter}");
    let undefine = libvirt.refused("nwfilter-undefine clean-traffic");
    assert!(undefine.contains("is one that Manor comes with, and stays"), "{undefine}");
    assert!(libvirt.refused("nwfilter-dumpxml own").contains("Network filter not found"));
}

const OWN: &str = "<filter name='own' chain='ipv4' priority='-700'>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <filterref filter='no-mac-spoofing'/>
  <rule action='accept' direction='in' priority='500'>
    <tcp dstportstart='$PORT' state='NEW,ESTABLISHED'/>
  </rule>
  <rule action='drop' direction='inout' priority='1000' statematch='false'>
    <all/>
  </rule>
</filter>";

#[test]
fn virsh_defines_edits_and_forgets_a_filter() {
    let libvirt = Libvirt::new();
    libvirt.rig.write("own.xml", OWN);
    let defined = libvirt.ok("nwfilter-define own.xml");
    assert_eq!(defined, "Network filter own defined from own.xml");
    assert_eq!(libvirt.ok("nwfilter-dumpxml own"), OWN);
    let dumped = libvirt.ok("nwfilter-dumpxml 11111111-2222-3333-4444-555555555555");
    libvirt.rig.write("own.xml", &dumped);
    libvirt.ok("nwfilter-define --validate own.xml");
    assert_eq!(libvirt.ok("nwfilter-dumpxml own"), OWN);
    assert!(libvirt.ok("nwfilter-list").contains("11111111-2222-3333-4444-555555555555   own"));

    let edited = libvirt.edit(&["nwfilter-edit", "own"], "sed -i s/PORT/DOOR/");
    assert_eq!(edited.status, 0, "{}", edited.err);
    assert!(libvirt.ok("nwfilter-dumpxml own").contains("$DOOR"));
    let mut edit = libvirt.rig.command(super::rig::MANOR.as_ref());
    edit.args(["nwfilter-edit", "own"]).env_remove("VISUAL").env("EDITOR", "sed -i s/DOOR/GATE/");
    let edited = libvirt.run(edit);
    assert!(edited.out.contains("Network filter own XML configuration edited."), "{}", edited.err);
    assert!(libvirt.ok("nwfilter-dumpxml own").contains("$GATE"));

    libvirt.rig.write(
        "other.xml",
        "<filter name='own'><uuid>11111111-2222-3333-4444-000000000000</uuid></filter>",
    );
    let other = libvirt.refused("nwfilter-define other.xml");
    assert!(other.contains("operation failed: there is a filter \"own\" already"), "{other}");
    libvirt.rig.write(
        "wrong.xml",
        "<filter name='w'><rule action='drop' direction='in'><tpc/></rule></filter>",
    );
    let wrong = libvirt.refused("nwfilter-define wrong.xml");
    assert!(wrong.contains("did you mean <tcp>"), "{wrong}");
    libvirt.rig.write("self.xml", "<filter name='self'><filterref filter='self'/></filter>");
    let itself = libvirt.refused("nwfilter-define self.xml");
    assert!(itself.contains("would be a part of itself: self"), "{itself}");

    let manor = |words: &[&str]| libvirt.rig.manor(words.iter().copied());
    libvirt.rig.write("own.xml", OWN);
    let path = libvirt.rig.path("own.xml").display().to_string();
    let defined = manor(&["nwfilter-define", &path]);
    let words = format!("Network filter own defined from {path}");
    assert_eq!(defined.out.trim(), words, "{}", defined.err);
    assert_eq!(libvirt.ok("nwfilter-dumpxml own"), OWN);
    let undefined = libvirt.ok("nwfilter-undefine own");
    assert_eq!(undefined, "Network filter own undefined");
    assert!(libvirt.refused("nwfilter-dumpxml own").contains("Network filter not found"));
    let missing = manor(&["nwfilter-undefine", "own"]);
    assert!(missing.status != 0 && missing.err.contains("there is none"), "{}", missing.err);
}

#[test]
fn virsh_is_not_let_undefine_a_filter_that_a_guest_has() {
    let driver = Driver::new();
    driver.write("own.xml", "<filter name='own'><rule action='drop' direction='out'/></filter>");
    driver.write(
        "guest.xml",
        "<domain type='test'><name>filtered</name><memory unit='MiB'>64</memory>\
         <os><type>hvm</type></os><devices><interface type='network'>\
         <source network='default'/><filterref filter='own'/></interface></devices></domain>",
    );
    let early = driver.virsh("create guest.xml");
    assert!(early.err.contains("there is no filter \"own\"; define it"), "{}", early.err);
    assert_eq!(driver.virsh("nwfilter-define own.xml").status, 0);
    let created = driver.virsh("create guest.xml");
    assert_eq!(created.status, 0, "{}", created.err);
    let used = driver.virsh("nwfilter-undefine own");
    let words =
        "Requested operation is not valid: nwfilter is in use: an interface of domain \"filtered\"";
    assert!(used.status != 0 && used.err.contains(words), "{}", used.err);
    assert_eq!(driver.virsh("destroy filtered").status, 0);
    assert_eq!(driver.virsh("nwfilter-undefine own").status, 0);
}

#[test]
fn virsh_shows_which_filter_is_bound_to_which_interface() {
    let driver = Driver::new();
    let filter =
        "<filterref filter='clean-traffic'><parameter name='IP' value='10.0.0.7'/></filterref>";
    driver.write(
        "guest.xml",
        &format!(
            "<domain type='test'><name>filtered</name><memory unit='MiB'>64</memory>\
             <os><type>hvm</type></os><devices><interface type='network'>\
             <mac address='52:54:00:00:00:77'/><source network='default'/>\
             <target dev='tap77'/>{filter}</interface></devices></domain>"
        ),
    );
    let ok = |line: &str| {
        let outcome = driver.virsh(line);
        assert_eq!(outcome.status, 0, "{line}: {}", outcome.err);
        outcome.out
    };
    ok("create guest.xml");
    let list = ok("nwfilter-binding-list");
    let bound = list.lines().any(|line| line.contains("tap77") && line.contains("clean-traffic"));
    assert!(bound, "{list}");
    let xml = ok("nwfilter-binding-dumpxml tap77");
    for part in [
        "<name>filtered</name>",
        "<portdev name='tap77'/>",
        "<mac address='52:54:00:00:00:77'/>",
        "<parameter name='IP' value='10.0.0.7'/>",
    ] {
        assert!(xml.contains(part), "{xml}");
    }
    let delete = driver.virsh("nwfilter-binding-delete tap77").err;
    assert!(delete.contains("a filter is bound to each interface"), "{delete}");
    // Described without one it has none, as with libvirt.
    driver.write(
        "open.xml",
        "<interface type='network'><mac address='52:54:00:00:00:77'/><source network='default'/>\
         <target dev='tap77'/></interface>",
    );
    ok("update-device filtered open.xml --live");
    assert!(!ok("nwfilter-binding-list").contains("tap77"));
    assert!(!ok("dumpxml filtered").contains("<filterref"));
    ok("destroy filtered");
}

/// A tap comes, has its link up, and goes; it needs root and /dev/net/tun, and says so.
const DEVICE_EVENTS: &str = "
import fcntl, libvirt, os, socket, struct, sys
libvirt.virEventRegisterDefaultImpl()
c, heard = libvirt.open(sys.argv[1]), []
name = 'mnrtap%d' % (os.getpid() % 100000)
def lifecycle(conn, device, event, detail, opaque):
    if name in device.name():
        heard.append(event)
def update(conn, device, opaque):
    if name in device.name():
        heard.append('update')
c.nodeDeviceEventRegisterAny(None, libvirt.VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE, lifecycle, None)
c.nodeDeviceEventRegisterAny(None, libvirt.VIR_NODE_DEVICE_EVENT_ID_UPDATE, update, None)
def wait(count):
    while len(heard) < count:
        libvirt.virEventRunDefaultImpl()
try:
    tap = os.open('/dev/net/tun', os.O_RDWR)
    fcntl.ioctl(tap, 0x400454ca, struct.pack('16sH22x', name.encode(), 0x1002))
except OSError as error:
    print('SKIP: no tap can be made here:', error)
    sys.exit()
wait(1)
assert any(name in device for device in c.listDevices('net'))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any:
    fcntl.ioctl(any, 0x8914, struct.pack('16sH22x', name.encode(), 1))
# As udevadm trigger: the kernel says that it has changed.
with open('/sys/class/net/%s/uevent' % name, 'w') as uevent:
    uevent.write('change')
wait(2)
os.close(tap)
wait(3)
print(heard)
";

#[test]
fn python_hears_of_devices_that_come_change_and_go() {
    let libvirt = Libvirt::new();
    let mut python = libvirt.clients.python(libvirt.home());
    python.args(["-c", DEVICE_EVENTS, &libvirt.uri()]);
    let outcome = libvirt.run(python);
    if outcome.out.starts_with("SKIP") {
        print!("{}", outcome.out);
        return;
    }
    assert_eq!(outcome.out, "[0, 'update', 1]\n", "{}", outcome.err);
}

const UUID: &str = "11111111-2222-3333-4444-555555555555";

#[test]
fn virsh_keeps_secrets_and_private_ones_to_itself() {
    let libvirt = Libvirt::new();
    let define = |private: &str| {
        let xml = format!(
            "<secret ephemeral='no' private='{private}'><uuid>{UUID}</uuid>\
             <usage type='volume'><volume>/srv/a.img</volume></usage></secret>"
        );
        libvirt.rig.write("secret.xml", xml);
        libvirt.ok("secret-define secret.xml")
    };
    assert_eq!(define("no"), format!("Secret {UUID} created"));
    assert!(libvirt.ok("secret-list").contains("volume /srv/a.img"));
    let unset = libvirt.refused(&format!("secret-get-value {UUID}"));
    assert!(unset.contains("Secret not found") && unset.contains("no value yet"), "{unset}");
    libvirt.ok(&format!("secret-set-value {UUID} --base64 aGVsbG8="));
    assert_eq!(libvirt.ok(&format!("secret-get-value {UUID}")), "aGVsbG8=");
    let read_only = libvirt.refused(&format!("-r secret-get-value {UUID}"));
    assert!(
        read_only.contains("read only access") || read_only.contains("forbidden"),
        "{read_only}"
    );
    let xml = libvirt.ok(&format!("secret-dumpxml {UUID}"));
    assert!(xml.contains("<volume>/srv/a.img</volume>") && !xml.contains("hello"), "{xml}");
    define("yes");
    let private = libvirt.refused(&format!("secret-get-value {UUID}"));
    assert!(private.contains("is private"), "{private}");
    assert!(libvirt.ok("secret-list --private").contains(UUID));
    assert!(!libvirt.ok("secret-list --no-private").contains(UUID));
    let audit = libvirt.rig.manor(["--json", "audit"]).out;
    assert!(audit.contains("secret.set-value") && !audit.contains("aGVsbG8"), "{audit}");
    libvirt.ok(&format!("secret-undefine {UUID}"));
    assert!(libvirt.refused(&format!("secret-dumpxml {UUID}")).contains("Secret not found"));
}

const SECRET_EVENTS: &str = "
import libvirt, sys
libvirt.virEventRegisterDefaultImpl()
c, heard = libvirt.open(sys.argv[1]), []
def lifecycle(conn, secret, event, detail, opaque):
    heard.append((secret.usageID(), event, detail))
def value(conn, secret, opaque):
    heard.append((secret.usageID(), 'value'))
c.secretEventRegisterAny(None, libvirt.VIR_SECRET_EVENT_ID_LIFECYCLE, lifecycle, None)
c.secretEventRegisterAny(None, libvirt.VIR_SECRET_EVENT_ID_VALUE_CHANGED, value, None)
s = c.secretDefineXML('<secret><usage type=\"ceph\"><name>pool</name></usage></secret>')
s.setValue(b'x\\0y')
assert c.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_CEPH, 'pool').value() == b'x\\0y'
s.undefine()
while len(heard) < 3:
    libvirt.virEventRunDefaultImpl()
print(heard)
";

#[test]
fn python_hears_of_secrets() {
    let libvirt = Libvirt::new();
    let mut python = libvirt.clients.python(libvirt.home());
    python.args(["-c", SECRET_EVENTS, &libvirt.uri()]);
    let outcome = libvirt.run(python);
    assert_eq!(
        outcome.out, "[('pool', 0, 0), ('pool', 'value'), ('pool', 1, 0)]\n",
        "{}",
        outcome.err
    );
}

/// What virt-manager calls when it opens a connection and shows its details.
const MANAGER: &str = "
import libvirt, sys
libvirt.virEventRegisterDefaultImpl()
c = libvirt.open(sys.argv[1])
none = lambda *args: None
c.setKeepAlive(20, 5)
c.registerCloseCallback(none, None)
c.getCapabilities(), c.getLibVersion(), c.getVersion(), c.getInfo(), c.getURI(), c.getType(), c.isSecure()
c.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, none, None)
c.networkEventRegisterAny(None, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE, none, None)
c.storagePoolEventRegisterAny(None, libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, none, None)
c.storagePoolEventRegisterAny(None, libvirt.VIR_STORAGE_POOL_EVENT_ID_REFRESH, none, None)
c.nodeDeviceEventRegisterAny(None, libvirt.VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE, none, None)
c.nodeDeviceEventRegisterAny(None, libvirt.VIR_NODE_DEVICE_EVENT_ID_UPDATE, none, None)
for net in c.listAllNetworks():
    net.XMLDesc(), net.isActive(), net.autostart()
for pool in c.listAllStoragePools():
    pool.XMLDesc(), pool.info()
devices = c.listAllDevices()
for device in devices:
    device.XMLDesc(), device.parent(), device.listCaps(), device.isActive()
assert c.listDevices('net') and c.numOfDevices(None) == len(devices)
for interface in c.listAllInterfaces():
    interface.XMLDesc(), interface.isActive(), interface.MACString()
for filter in c.listAllNWFilters():
    assert c.nwfilterLookupByUUID(filter.UUID()).name() == filter.name()
c.listAllSecrets(), c.listSecrets(), c.getAllDomainStats()
c.unregisterCloseCallback()
print('answered')
";

#[test]
fn what_virt_manager_asks_is_answered() {
    let libvirt = Libvirt::new();
    let mut python = libvirt.clients.python(libvirt.home());
    python.args(["-c", MANAGER, &libvirt.uri()]);
    let outcome = libvirt.run(python);
    assert_eq!(outcome.out, "answered\n", "{}", outcome.err);
}
