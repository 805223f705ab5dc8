use uuid::Uuid;
use vmm_protocol::config::{
    Boot, Fd, Identity, Input, InputRole, MachineConfig, MemoryBacking, PciKind, ProcessFiles,
    Ramfb, VsockHost, WatchdogAction,
};

use super::{
    Host, OpenChardev, OpenDisk, OpenTap, OpenVsock, Resources, Start, VsockEnd, define,
    fw_cfg_files, live, machine, stored, variables, with_aliases,
};
use crate::config;
use crate::error::{Code, Error};
use crate::firmware::Installed;
use crate::host::Driver;

const VSOCK: OpenVsock = OpenVsock { end: VsockEnd::Kernel(Fd(40)), cid: 7 };

struct Ids(u8);

impl xml::Identity for Ids {
    fn uuid(&mut self) -> Uuid {
        self.0 += 1;
        Uuid::from_u128(u128::from(self.0))
    }
    fn mac(&mut self) -> [u8; 3] {
        self.0 += 1;
        [0, 0, self.0]
    }
}

/// A domain with these devices, and a kernel.
fn domain(devices: &str) -> String {
    with("", devices)
}

fn with(rest: &str, devices: &str) -> String {
    format!(
        "<domain type='kvm'>\n<name>t</name>\n<memory unit='MiB'>64</memory>\n\
         <os><type machine='q35'>hvm</type><kernel>/k</kernel><cmdline> quiet </cmdline></os>\n{rest}\n\
         <devices>\n{devices}\n</devices>\n</domain>"
    )
}

/// One without any firmware.
fn host() -> Host {
    let firmware =
        config::Firmware { bios: Vec::new(), option_roms: Vec::new(), descriptors: Vec::new() };
    Host {
        firmware: Installed::new(firmware),
        variables: "/var/lib/manor/nvram".into(),
        seeds: None,
        driver: Driver::Kvm,
    }
}

fn defined(text: &str) -> xml::DomainDef {
    define(text, &mut Ids(0), &host()).unwrap().def
}

fn refused(text: &str) -> Error {
    define(text, &mut Ids(0), &host()).unwrap_err()
}

fn addresses(def: &xml::DomainDef) -> Vec<String> {
    let devices = &def.devices;
    let disks = devices.disks.iter().map(|d| (d.target.dev.clone(), &d.address));
    let nics = devices.interfaces.iter().map(|_| "nic".to_owned());
    let nics = nics.zip(devices.interfaces.iter().map(|i| &i.address));
    let ports =
        devices.controllers.iter().map(|c| (format!("{}{}", c.kind, c.index.unwrap()), &c.address));
    let all = ports.chain(nics).chain(disks);
    all.filter_map(|(name, address)| Some(format!("{name} {}", address.as_ref()?.pci()?))).collect()
}

fn configured(def: &xml::DomainDef) -> MachineConfig {
    let def = with_aliases(def);
    let count = |n: usize| (0..n).map(|n| Fd(100 + i32::try_from(n).unwrap()));
    let resources = Resources {
        vsock: def.devices.vsock.as_ref().map(|_| VSOCK),
        kernel: def.os.kernel.as_ref().map(|_| Fd(10)),
        initrd: None,
        firmware: Some(Fd(11)),
        variables: variables(&def).map(|_| Fd(12)),
        fw_cfg: count(fw_cfg_files(&def).count()).collect(),
        disks: (def.devices.disks.iter().zip(count(def.devices.disks.len())))
            .map(|(disk, fd)| disk.source.is_some().then(|| OpenDisk::raw(fd)))
            .collect(),
        interfaces: def
            .devices
            .interfaces
            .iter()
            .map(|_| OpenTap {
                name: "vnet0".into(),
                bridge: Some("virbr0".into()),
                queues: vec![Fd(20), Fd(21)],
                ..OpenTap::default()
            })
            .collect(),
        serials: vec![OpenChardev::default(); def.devices.serials.len()],
        consoles: vec![OpenChardev::default(); def.devices.consoles.len()],
        channels: vec![OpenChardev::default(); def.devices.channels.len()],
        video_rom: Some(Fd(13)),
        vnc: super::display::OpenVnc {
            listener: Some(Fd(14)),
            port: Some(5901),
            ..Default::default()
        },
    };
    let nil = Uuid::nil();
    let identity = Identity { name: "t".into(), uuid: nil, start_token: nil, boot_id: nil };
    let process = ProcessFiles {
        kvm: Fd(4),
        control: Fd(5),
        exit_record: Fd(6),
        log: None,
        locks: vec![],
        live_record: String::new(),
        seccomp: true,
        isolation: vmm_protocol::config::Isolation::default(),
    };
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    machine(&def, &resources, Start { identity, platform: 1, process, paused: false, now }).unwrap()
}

const DISK: &str = "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/></disk>";
const NIC: &str = "<interface type='bridge'><source bridge='br0'/></interface>";

mod addresses;
mod clock;
mod cpu;
mod direct;
mod drives;
mod firmware;
mod hyperv;
mod nbd;
mod numa;
mod user;

#[test]
fn the_example_becomes_a_machine() {
    let text = include_str!("../../../resources/examples/demo.xml");
    let def = defined(text);
    let config = configured(&def);
    assert_eq!(config.memory.size, 256 << 20);
    assert_eq!(config.cpus.count, 2);
    let Boot::Kernel { kernel, cmdline, .. } = &config.boot else { panic!("no kernel") };
    assert_eq!(*kernel, Fd(10));
    assert!(cmdline.starts_with("console=ttyS0"));
    let kinds: Vec<_> = config.pci.iter().map(|device| device.id.as_str()).collect();
    assert_eq!(kinds, ["net0", "virtio-disk0", "rng0", "balloon0"]);
    assert_eq!(config.serial[0].id, "serial0");
    let threads: Vec<_> = config.io_threads.iter().map(|thread| thread.name.as_str()).collect();
    assert_eq!(threads, ["io:plugged", "net:vnet0", "blk:vda", "io:rest"]);
    let PciKind::Blk(disk) = &config.pci[1].kind else { panic!() };
    assert_eq!(disk.queues, [2, 2], "a queue for each vCPU, on the disk's thread");
    let PciKind::Net(net) = &config.pci[0].kind else { panic!() };
    assert_eq!(net.queues, [1, 1], "a queue for each tap file, on the interface's thread");
}

#[test]
fn what_was_defined_comes_back_and_starts_the_same_again() {
    let def = defined(&domain(&format!(
        "{DISK}{NIC}<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
    )));
    let text = def.to_xml();
    let again = stored(&text).unwrap();
    assert_eq!(again, def);
    assert_eq!(configured(&again), configured(&def));
    assert_eq!(defined(&text), def, "a definition that was dumped can be defined");
}

#[test]
fn a_balloon_is_there_unless_it_is_not_wanted_and_holds_what_current_memory_leaves() {
    let balloon = |text: &str| {
        let config = configured(&defined(text));
        config.pci.into_iter().find_map(|device| match device.kind {
            PciKind::Balloon(balloon) => Some(balloon),
            _ => None,
        })
    };
    let all = balloon(&domain("")).unwrap();
    assert_eq!((all.current, all.deflate_on_oom, all.statistics_period), (64 << 20, false, 0));
    let odd = domain("").replace("<memory unit='MiB'>64", "<memory unit='KiB'>65000");
    assert_eq!(balloon(&odd).unwrap().current, 64 << 20, "memory is rounded up, not taken away");
    let written = "<memballoon model='virtio' autodeflate='on' freePageReporting='on'>\
                   <stats period='5'/></memballoon>";
    let less = balloon(&with("<currentMemory unit='MiB'>48</currentMemory>", written)).unwrap();
    assert_eq!((less.current, less.statistics_period), (48 << 20, 5));
    assert!(less.deflate_on_oom && less.free_page_reporting);
    assert_eq!(balloon(&domain("<memballoon model='none'/>")), None);
    let xen = refused(&domain("<memballoon model='xen'/>"));
    assert_eq!((xen.code, xen.problems.len()), (Code::Unsupported, 1));
}

#[test]
fn a_vsock_has_the_address_that_it_was_given_also_in_the_live_definition() {
    let def = defined(&domain("<vsock model='virtio'><cid auto='yes'/></vsock>"));
    let config = configured(&def);
    let vsock = config.pci.iter().find(|device| device.id == "vsock0").unwrap();
    let PciKind::Vsock(vsock) = vsock.kind else { panic!("{:?}", vsock.kind) };
    let VsockHost::Kernel { vhost, .. } = vsock.host else { panic!("{:?}", vsock.host) };
    assert_eq!((vsock.cid, vhost), (7, Fd(40)));
    let resources = Resources { vsock: Some(VSOCK), ..Resources::default() };
    let running = live(&def, 1, &resources).to_xml();
    assert!(running.contains("<cid auto='yes' address='7'/>"), "{running}");
    let none = refused(&domain("<vsock model='virtio'/>"));
    assert!(none.message.contains("cid auto"), "{}", none.message);
}

#[test]
fn virtio_input_devices_are_there_and_the_hosts_own_are_refused() {
    let inputs = "<input type='tablet' bus='virtio'/><input type='keyboard' bus='virtio'/>";
    let config = configured(&defined(&domain(inputs)));
    let role = |id: &str| config.pci.iter().find(|device| device.id == id).map(|d| d.kind.clone());
    let input = |role| Some(PciKind::Input(Input { role, io_thread: 1 }));
    assert_eq!(role("input0"), input(InputRole::Tablet));
    assert_eq!(role("input1"), input(InputRole::Keyboard));
    let host = refused(&domain("<input type='passthrough' bus='virtio'/>"));
    assert!(host.message.contains("of the host"), "{}", host.message);
}

#[test]
fn a_generation_that_is_not_written_is_made_and_kept() {
    let def = defined(&with("<genid/>", ""));
    let made = def.genid.as_ref().and_then(|genid| genid.id);
    assert!(made.is_some() && made != def.uuid);
    assert_eq!(configured(&stored(&def.to_xml()).unwrap()).generation, made);
    let id = "12345678-1234-1234-1234-123456789abc";
    let written = configured(&defined(&with(&format!("<genid>{id}</genid>"), "")));
    assert_eq!(written.generation.unwrap().to_string(), id);
}

#[test]
fn memory_is_of_huge_pages_locked_and_given_at_once_as_the_definition_says() {
    let memory = |backing: &str| {
        let text = format!("<memoryBacking>{backing}</memoryBacking>");
        configured(&defined(&with(&text, ""))).memory
    };
    let page = "<hugepages><page size='1' unit='GiB'/></hugepages>";
    assert_eq!(memory(page).backing, MemoryBacking::Huge { page: Some(1 << 30) });
    assert_eq!(memory("<hugepages/>").backing, MemoryBacking::Huge { page: None });
    let both = memory("<nosharepages/><locked/><allocation mode='immediate'/>");
    assert!(both.locked && both.prefault && both.backing == MemoryBacking::Anonymous);
    assert!(memory("").mergeable && !both.mergeable);
    assert!(!memory("<hugepages/>").mergeable, "nobody looks for the same in those");
    let two = "<hugepages><page size='2' unit='M' nodeset='1'/></hugepages>";
    let refusal = refused(&with(&format!("<memoryBacking>{two}</memoryBacking>"), ""));
    assert_eq!(refusal.code, Code::Unsupported);
    let odd = "<memoryBacking><hugepages><page size='3' unit='M'/></hugepages></memoryBacking>";
    assert!(refused(&with(odd, "")).message.contains("power of two"));
}

#[test]
fn a_watchdog_sits_on_the_root_bus_and_does_what_is_written() {
    let port = "<controller type='pci' index='1' model='pcie-root-port'/>";
    let dog = |action: &str| format!("{port}{NIC}<watchdog model='i6300esb'{action}/>");
    let found = |text: &str| {
        let config = configured(&defined(text));
        let dog = config.pci.into_iter().find(|device| device.id == "watchdog0").unwrap();
        let PciKind::Watchdog(watchdog) = dog.kind else { panic!("{:?}", dog.kind) };
        (dog.address.bus, watchdog.action)
    };
    assert_eq!(found(&domain(&dog(""))), (0, WatchdogAction::Reset));
    let nmi = found(&domain(&dog(" action='inject-nmi'")));
    assert_eq!(nmi, (0, WatchdogAction::InjectNmi));
    let dump = refused(&domain(&dog(" action='dump'")));
    assert!(dump.message.contains("core dumps"), "{}", dump.message);
    assert_eq!(refused(&domain("<watchdog model='ib700'/>")).code, Code::Unsupported);
    let itco =
        define(&domain("<watchdog model='itco' action='reset'/>"), &mut Ids(0), &host()).unwrap();
    assert_eq!(itco.warnings.len(), 1);
}

#[test]
fn what_is_not_provided_is_refused_by_name_with_its_place() {
    let cases = [
        ("<interface type='null'/>", "type='null'", "@type"),
        (
            "<interface type='bridge'><source bridge='b'/><model type='e1000'/></interface>",
            "e1000",
            "model/@type",
        ),
        ("<disk><source file='/a'/><target dev='sda' bus='usb'/></disk>", "bus usb", "target/@bus"),
        ("<disk device='cdrom'><target dev='vda'/></disk>", "a cdrom drive on virtio", "@device"),
        ("<disk type='dir'><source dir='/d'/><target dev='vda'/></disk>", "type='dir'", "@type"),
        (
            "<disk><driver type='qed'/><source file='/a'/><target dev='vda'/></disk>",
            "the image format qed; there are raw, qcow2, vmdk, vdi, vpc",
            "driver/@type",
        ),
        (
            "<serial type='tcp'><source mode='bind' host='::' service='1'/></serial>",
            "type='tcp'",
            "@type",
        ),
        (
            "<rng model='virtio'><backend model='random'>/dev/hwrng</backend></rng>",
            "from /dev/hwrng; use /dev/urandom",
            "backend",
        ),
    ];
    for (devices, words, place) in cases {
        let error = refused(&domain(devices));
        assert_eq!(error.code, Code::Unsupported, "{devices}");
        assert!(error.message.contains(words), "{devices}: {error}");
        let problem = error.problems.iter().find(|problem| !problem.warning).unwrap();
        assert!(problem.path.ends_with(place), "{devices}: {}", problem.path);
        assert_eq!(problem.line, 7, "{devices}");
    }
}

#[test]
fn all_problems_come_at_once() {
    let text = with(
        "<vcpu>65</vcpu><cpu mode='custom'><model>pentium</model></cpu>",
        "<vsock/><disk><source file='/a'/><target dev='hda'/></disk>",
    );
    let error = refused(&text);
    let problems = error.problems.iter().filter(|problem| !problem.warning).count();
    assert_eq!(problems, 4, "{:#?}", error.problems);
    assert!(error.message.contains("(and 3 more problems)"), "{error}");
}

#[test]
fn what_a_guest_does_not_need_is_accepted_with_a_warning() {
    let text = domain(
        "<input type='tablet' bus='usb'/><graphics type='spice' autoport='yes'/>\
         <sound model='ich9'/><video><model type='qxl'/></video>",
    );
    let checked = define(&text, &mut Ids(0), &host()).unwrap();
    let paths: Vec<_> = checked.warnings.iter().map(|warning| warning.path.as_str()).collect();
    for device in ["input", "graphics", "sound", "video"] {
        assert!(paths.iter().any(|path| path.contains(device)), "{device}: {paths:?}");
    }
    assert!(checked.warnings.iter().all(|warning| warning.warning && warning.line == 7));
    assert!(checked.def.to_xml().contains("spice"), "it comes back all the same");
}

#[test]
fn a_ramfb_is_a_screen_on_no_bus() {
    let text = domain("<graphics type='vnc'/><video><model type='ramfb'/></video>");
    let checked = define(&text, &mut Ids(0), &host()).unwrap();
    assert_eq!(checked.warnings, []);
    assert_eq!(checked.def.devices.videos[0].address, None);
    let config = configured(&checked.def);
    assert!(!config.pci.iter().any(|device| matches!(device.kind, PciKind::Video(_))));
    let expected = Ramfb { id: "video0".to_owned(), rom: Some(Fd(13)) };
    assert_eq!((config.ramfb, config.vnc.len()), (Some(expected), 1));
}

#[test]
fn a_plain_definition_has_no_warnings() {
    let checked = define(&domain(&format!("{DISK}{NIC}")), &mut Ids(0), &host()).unwrap();
    assert_eq!(checked.warnings, []);
}

#[test]
fn io_threads_are_those_that_the_definition_names() {
    let disk = DISK.replace("<source", "<driver type='raw' iothread='2' queues='3'/><source");
    let tune = "<iothreads>2</iothreads>\
                <cputune><iothreadpin iothread='2' cpuset='1,3'/></cputune>";
    let config = configured(&defined(&with(tune, &disk)));
    let PciKind::Blk(blk) = &config.pci[0].kind else { panic!() };
    assert_eq!(blk.queues, [1, 1, 1]);
    assert_eq!(config.io_threads[1].name, "iothread2");
    assert_eq!(config.io_threads[1].affinity, [1, 3]);
    let error = refused(&domain(&disk));
    assert!(error.message.contains("no io thread 2"), "{error}");
}

#[test]
fn vcpus_are_pinned_and_shaped_as_written() {
    let rest = "<vcpu cpuset='0-1'>4</vcpu><cputune><vcpupin vcpu='2' cpuset='7'/></cputune>\
                <cpu mode='host-model'><topology sockets='1' cores='2' threads='2'/></cpu>";
    let cpus = configured(&defined(&with(rest, ""))).cpus;
    assert_eq!(cpus.affinity, [vec![0, 1], vec![0, 1], vec![7], vec![0, 1]]);
    assert_eq!((cpus.topology.cores, cpus.topology.threads), (2, 2));
    let error = refused(&with(
        "<vcpu>3</vcpu><cpu><topology sockets='1' cores='2' threads='2'/></cpu>",
        "",
    ));
    assert!(error.message.contains("the topology has 4 vCPUs, and <vcpu> has 3"), "{error}");
}

#[test]
fn consoles_and_channels_get_ports() {
    let def = defined(&domain(
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
         <console type='pty'><target type='virtio'/></console>",
    ));
    let config = configured(&def);
    let PciKind::Console(console) = &config.pci[0].kind else { panic!("{:?}", config.pci) };
    let ports: Vec<_> =
        console.ports.iter().map(|port| (port.number, port.name.as_deref())).collect();
    assert_eq!(ports, [(0, None), (1, Some("org.qemu.guest_agent.0"))]);
}

#[test]
fn the_live_definition_shows_where_consoles_and_interfaces_are() {
    let def = defined(&domain(&format!("{NIC}<serial type='pty'/>")));
    let resources = Resources {
        interfaces: vec![OpenTap { name: "vnet5".into(), ..OpenTap::default() }],
        serials: vec![OpenChardev { path: Some("/dev/pts/9".into()), ..OpenChardev::default() }],
        consoles: vec![OpenChardev::default()],
        ..Resources::default()
    };
    let xml = live(&def, 3, &resources).to_xml();
    assert!(xml.starts_with("<domain type='kvm' id='3'>"), "{xml}");
    assert_eq!(xml.matches("<source path='/dev/pts/9'/>").count(), 2, "{xml}");
    assert!(xml.contains("<console type='pty' tty='/dev/pts/9'>"), "{xml}");
    assert!(xml.contains("<target dev='vnet5'/>"), "{xml}");
    assert!(
        xml.contains("<alias name='serial0'/>") && xml.contains("<alias name='net0'/>"),
        "{xml}"
    );
}

#[test]
fn the_clock_follows_the_definition() {
    let offset = |clock: &str| configured(&defined(&with(clock, ""))).clock.offset;
    assert_eq!(offset(""), 0);
    assert_eq!(offset("<clock offset='variable' adjustment='-3600'/>"), -3600);
    assert_eq!(offset("<clock offset='absolute' start='0'/>"), -1_767_225_600);
    let no = "<clock offset='utc'><timer name='kvmclock' present='no'/></clock>";
    assert!(!configured(&defined(&with(no, ""))).clock.kvmclock);
}
