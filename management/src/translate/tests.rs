use uuid::Uuid;
use vmm_protocol::config::{
    Boot, CpuMatch, CpuModel, Fd, FeaturePolicy, Firmware, FwCfgContent, FwCfgFile, Identity,
    Input, InputRole, MachineConfig, MemoryBacking, PciKind, ProcessFiles, Smbios, WatchdogAction,
};

use super::{
    Host, OpenChardev, OpenDisk, OpenTap, Resources, Start, define, fw_cfg_files, live, machine,
    stored, variables, with_aliases,
};
use crate::config;
use crate::error::{Code, Error};
use crate::firmware::Installed;

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
    Host { firmware: Installed::new(firmware), variables: "/var/lib/manor/nvram".into() }
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
        vsock: def.devices.vsock.as_ref().map(|_| (Fd(40), 7)),
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
            .map(|_| OpenTap { name: "vnet0".into(), queues: vec![Fd(20), Fd(21)], rom: None })
            .collect(),
        serials: vec![OpenChardev::default(); def.devices.serials.len()],
        consoles: vec![OpenChardev::default(); def.devices.consoles.len()],
        channels: vec![OpenChardev::default(); def.devices.channels.len()],
        video_rom: Some(Fd(13)),
        vnc: super::display::OpenVnc { listener: Some(Fd(14)), port: Some(5901), socket: None },
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
    };
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    machine(&def, &resources, Start { identity, platform: 1, process, paused: false, now }).unwrap()
}

const DISK: &str = "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/></disk>";
const NIC: &str = "<interface type='bridge'><source bridge='br0'/></interface>";

mod drives;

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
    assert_eq!(threads, ["net:vnet0", "blk:vda", "io:rest"]);
    let PciKind::Blk(disk) = &config.pci[1].kind else { panic!() };
    assert_eq!(disk.queues, [1, 1], "a queue for each vCPU, on the disk's thread");
    let PciKind::Net(net) = &config.pci[0].kind else { panic!() };
    assert_eq!(net.queues, [0, 0], "a queue for each tap file, on the interface's thread");
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
    assert_eq!((vsock.cid, vsock.vhost), (7, Fd(40)));
    let resources = Resources { vsock: Some((Fd(40), 7)), ..Resources::default() };
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
    let input = |role| Some(PciKind::Input(Input { role, io_thread: 0 }));
    assert_eq!(role("input0"), input(InputRole::Tablet));
    assert_eq!(role("input1"), input(InputRole::Keyboard));
    let host = refused(&domain("<input type='passthrough' bus='virtio'/>"));
    assert!(host.message.contains("of the host"), "{}", host.message);
}

#[test]
fn a_named_cpu_goes_with_its_features_and_what_no_version_knows_is_refused() {
    let cpu = |text: &str| configured(&defined(&with(text, ""))).cpus;
    let named =
        cpu("<cpu mode='custom' match='minimum' check='none'><model>Skylake-Server</model>\
         <vendor>Intel</vendor><cache mode='disable'/><maxphysaddr mode='emulate' bits='42'/>\
         <feature policy='disable' name='hle'/><feature name='aes'/></cpu>");
    assert_eq!(named.model, CpuModel::Named("Skylake-Server".to_owned()));
    let details = named.details;
    assert_eq!((details.matching, details.unchecked), (CpuMatch::Minimum, true));
    assert_eq!((details.physical_bits, details.hide_caches), (Some(42), true));
    let features = [("hle", FeaturePolicy::Disable), ("aes", FeaturePolicy::Require)];
    assert_eq!(details.features, features.map(|(name, policy)| (name.to_owned(), policy)));
    assert_eq!(cpu("<cpu mode='maximum'/>").model, CpuModel::HostPassthrough);
    assert_eq!(
        cpu("<cpu><topology sockets='1' cores='1' threads='1'/></cpu>").model,
        CpuModel::HostModel
    );
    let hidden = "<features><kvm><hidden state='on'/></kvm></features>";
    assert!(cpu(hidden).details.hide_kvm);
    for (text, word) in [
        ("<cpu mode='custom'><model>pentium</model></cpu>", "there are kvm64"),
        ("<cpu mode='host-model'><feature name='aez'/></cpu>", "aez"),
        ("<cpu mode='custom'><model vendor_id='short'>EPYC</model></cpu>", "12 characters"),
        ("<cpu mode='custom'><model>EPYC</model><vendor>VIA</vendor></cpu>", "VIA"),
        ("<cpu mode='host-model'><maxphysaddr mode='emulate'/></cpu>", "bits="),
        ("<cpu mode='host-model'><maxphysaddr mode='emulate' bits='60'/></cpu>", "60"),
    ] {
        let message = refused(&with(text, "")).message;
        assert!(message.contains(word), "{text}: {message}");
    }
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
    let two = "<hugepages><page size='2' unit='M' nodeset='0'/></hugepages>";
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
fn devices_fill_bus_0_where_the_definition_has_no_ports() {
    let def = defined(&domain(&format!("{NIC}{DISK}")));
    assert_eq!(addresses(&def), ["nic 0000:00:02.0", "vda 0000:00:03.0"]);
    let pc = domain(&format!("{NIC}{DISK}")).replace("q35", "pc-i440fx-7.2");
    assert_eq!(addresses(&defined(&pc)), ["nic 0000:00:03.0", "vda 0000:00:04.0"]);
}

#[test]
fn devices_fill_root_ports_first_and_ports_share_a_slot() {
    let ports: String = (1..=3)
        .map(|index| format!("<controller type='pci' index='{index}' model='pcie-root-port'/>"))
        .collect();
    let second = DISK.replace("vda", "vdb").replace("/a", "/b");
    let third = DISK.replace("vda", "vdc").replace("/a", "/c");
    let def =
        defined(&domain(&format!("{ports}{NIC}{DISK}{second}{third}<memballoon model='none'/>")));
    let expected = [
        "pci1 0000:00:02.0",
        "pci2 0000:00:02.1",
        "pci3 0000:00:02.2",
        "nic 0000:01:00.0",
        "vda 0000:02:00.0",
        "vdb 0000:03:00.0",
        "vdc 0000:00:03.0",
    ];
    assert_eq!(addresses(&def), expected);
    let config = configured(&def);
    let shared: Vec<_> = config.pci.iter().map(|device| device.multifunction).collect();
    assert_eq!(&shared[..4], [true, false, false, false]);
    let PciKind::RootPort(port) = &config.pci[1].kind else { panic!() };
    assert_eq!((port.controller, port.chassis, port.port), (2, 2, 0x11));
}

#[test]
fn written_addresses_stay_and_others_go_around_them() {
    let at = |slot: u32| format!("<address type='pci' bus='0' slot='{slot}' function='0'/></disk>");
    let fixed = DISK.replace("</disk>", &at(2));
    let def = defined(&domain(&format!("{NIC}{fixed}")));
    assert_eq!(addresses(&def), ["nic 0000:00:03.0", "vda 0000:00:02.0"]);
    for (slot, why) in [(0, "belongs to the board"), (31, "belongs to the board")] {
        let error = refused(&domain(&DISK.replace("</disk>", &at(slot))));
        assert!(error.message.contains(why), "{error}");
        assert_eq!(error.problems[0].path, "/domain/devices/disk[1]/address");
    }
    let nowhere = "<address type='pci' bus='7' slot='1' function='0'/></disk>";
    let error = refused(&domain(&DISK.replace("</disk>", nowhere)));
    assert!(error.message.contains("no controller has that index"), "{error}");
}

#[test]
fn more_devices_than_slots_are_refused() {
    let disks: String = (b'a'..=b'z')
        .flat_map(|a| [format!("vd{}", a as char), format!("vda{}", a as char)])
        .map(|dev| DISK.replace("vda", &dev))
        .collect();
    let error = refused(&domain(&disks));
    assert!(error.message.contains("more devices than PCI slots"), "{error}");
}

#[test]
fn what_is_not_provided_is_refused_by_name_with_its_place() {
    let cases = [
        (
            "<interface type='network'><source network='default'/></interface>",
            "virtual networks",
            "@type",
        ),
        ("<interface type='user'/>", "type='user'", "@type"),
        (
            "<interface type='bridge'><source bridge='b'/><model type='e1000'/></interface>",
            "e1000",
            "model/@type",
        ),
        ("<disk><source file='/a'/><target dev='sda' bus='usb'/></disk>", "bus usb", "target/@bus"),
        ("<disk device='cdrom'><target dev='vda'/></disk>", "a cdrom drive on virtio", "@device"),
        (
            "<disk type='volume'><source pool='p' volume='v'/><target dev='vda'/></disk>",
            "type='volume'",
            "@type",
        ),
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
        interfaces: vec![OpenTap { name: "vnet5".into(), queues: vec![], rom: None }],
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

/// A domain that boots from its disk.
fn bootable(os: &str, devices: &str) -> String {
    with("", devices).replace("<kernel>/k</kernel><cmdline> quiet </cmdline>", os)
}

fn firmware_of(text: &str) -> Firmware {
    match configured(&defined(text)).boot {
        Boot::Firmware(firmware) => firmware,
        Boot::Kernel { .. } => panic!("a kernel"),
    }
}

#[test]
fn a_domain_without_a_kernel_starts_with_the_bios() {
    let text = bootable("", DISK);
    let expected = Firmware { image: Fd(11), variables: None, menu: None, serial_text: false };
    assert_eq!(firmware_of(&text), expected);
    assert!(!defined(&text).to_xml().contains("<loader"), "as libvirt, it is not written down");
    let serial = format!("{DISK}<serial type='pty'/>");
    assert!(firmware_of(&bootable("", &serial)).serial_text, "nothing else shows its text");
    let shown = format!("{serial}<video><model type='vga'/></video>");
    assert!(!firmware_of(&bootable("", &shown)).serial_text);
    let menu = "<bootmenu enable='yes' timeout='3000'/><bios useserial='yes'/>";
    let firmware = firmware_of(&bootable(menu, &shown));
    assert_eq!((firmware.menu, firmware.serial_text), (Some(3000), true));
    assert_eq!(firmware_of(&bootable("<bootmenu enable='no' timeout='1'/>", DISK)).menu, None);
}

#[test]
fn flash_has_variables_of_the_domains_own() {
    let code = "<loader readonly='yes' type='pflash'>/code.fd</loader>";
    let text = bootable(&format!("{code}<nvram template='/vars.fd'/>"), DISK);
    let def = defined(&text);
    let uuid = def.uuid.unwrap();
    let path = format!("/var/lib/manor/nvram/{uuid}_VARS.fd");
    assert!(
        def.to_xml().contains(&format!("<nvram template='/vars.fd'>{path}</nvram>")),
        "{}",
        def.to_xml()
    );
    assert_eq!(firmware_of(&text).variables, Some(Fd(12)));
    assert_eq!(defined(&def.to_xml()), def);
    let own = bootable(&format!("{code}<nvram>/own.fd</nvram>"), DISK);
    assert!(defined(&own).to_xml().contains("<nvram>/own.fd</nvram>"));
    let rom = bootable("<loader>/OVMF.fd</loader>", DISK);
    assert_eq!(firmware_of(&rom).variables, None);
    let stateless = code.replace("type", "stateless='yes' type");
    assert_eq!(firmware_of(&bootable(&stateless, DISK)).variables, None);
}

#[test]
fn firmware_that_cannot_be_had_is_refused_by_name() {
    let efi = "<firmware><feature enabled='yes' name='secure-boot'/></firmware>";
    let pflash = "<loader readonly='yes' type='pflash'>/code.fd</loader>";
    let cases = [
        ("<kernel>/k</kernel><loader>/x</loader>", "firmware beside a kernel"),
        ("<initrd>/x</initrd>", "a <initrd> without a <kernel>"),
        (efi, "Secure Boot: it needs system management mode"),
        ("<loader/>", "name the firmware image"),
        ("<loader secure='yes'>/x</loader>", "Secure Boot"),
        ("<loader format='qcow2'>/x</loader>", "convert it to raw"),
        ("<loader readonly='no' type='pflash'>/x</loader>", "use readonly='yes'"),
        ("<loader>/x</loader><nvram>/v</nvram>", "variables are kept in flash"),
        ("<loader stateless='yes' type='pflash'>/x</loader><nvram>/v</nvram>", "keep none"),
        (&format!("{pflash}<nvram format='qcow2'>/v</nvram>"), "convert them to raw"),
    ];
    for (os, expected) in cases {
        let error = refused(&bootable(os, DISK));
        assert!(error.problems.iter().any(|p| p.message.contains(expected)), "{os}: {error:?}");
    }
    let microvm = bootable("", DISK).replace("q35", "microvm");
    assert!(refused(&microvm).message.contains("a microvm has no firmware"));
    let missing = refused(&bootable("", DISK).replace("<os>", "<os firmware='efi'>"));
    assert!(missing.message.contains("install the package ovmf"), "{missing:?}");
    assert_eq!(missing.code, Code::Unsupported);
}

#[test]
fn the_boot_order_names_devices_or_the_first_of_each_kind() {
    let order = |text: &str| {
        let config = configured(&defined(text));
        let ordered = config.pci.into_iter().filter_map(|d| Some((d.boot_index?, d.id)));
        let mut ordered: Vec<_> = ordered.collect();
        ordered.sort_unstable();
        ordered.into_iter().map(|(order, id)| format!("{order} {id}")).collect::<Vec<_>>()
    };
    let second = DISK.replace("vda", "vdb").replace("/a", "/b");
    assert_eq!(order(&bootable("", &format!("{DISK}{second}{NIC}"))), ["1 virtio-disk0"]);
    let by_kind = "<boot dev='network'/><boot dev='hd'/>";
    let both = format!("{DISK}{second}{NIC}");
    assert_eq!(order(&bootable(by_kind, &both)), ["1 net0", "2 virtio-disk0"]);
    let own = |text: &str, order: u32, end: &str| {
        text.replace(end, &format!("<boot order='{order}'/>{end}"))
    };
    let own = format!("{DISK}{}{}", own(&second, 7, "</disk>"), own(NIC, 3, "</interface>"));
    assert_eq!(order(&bootable("", &own)), ["3 net0", "7 virtio-disk1"]);
}

#[test]
fn smbios_and_fw_cfg_tell_what_the_definition_says() {
    let uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f";
    let sysinfo = format!(
        "<sysinfo type='smbios'><system><entry name='manufacturer'>Acme</entry>         <entry name='uuid'>{uuid}</entry></system><oemStrings><entry>a:b</entry></oemStrings></sysinfo>         <sysinfo type='fwcfg'><entry name='opt/com.example/a'>text</entry>         <entry name='opt/com.example/b' file='/b'/></sysinfo>"
    );
    let text = |mode: &str| with(&sysinfo, DISK).replace("</os>", &format!("{mode}</os>"));
    let def = defined(&text("<smbios mode='sysinfo'/>"));
    assert_eq!(def.uuid.unwrap().to_string(), uuid, "it is the domain's, said nowhere else");
    let config = configured(&def);
    assert_eq!(config.smbios.system.manufacturer.as_deref(), Some("Acme"));
    assert_eq!(config.smbios.oem_strings, ["a:b"]);
    let file = |name: &str, content| FwCfgFile { name: format!("opt/com.example/{name}"), content };
    let expected =
        [file("a", FwCfgContent::Text("text".into())), file("b", FwCfgContent::File(Fd(100)))];
    assert_eq!(config.fw_cfg, expected);
    // Without the mode, libvirt tells none of it.
    assert_eq!(configured(&defined(&text(""))).smbios, Smbios::default());

    let other = text("").replace(
        "<name>t</name>",
        "<name>t</name><uuid>00000000-0000-0000-0000-000000000001</uuid>",
    );
    assert!(refused(&other).message.contains("not that of the domain"));
    for (name, expected) in [("etc/e820", "must begin with 'opt/'"), ("opt/", "")] {
        let text = text("").replace("opt/com.example/a", name);
        if expected.is_empty() {
            defined(&text);
        } else {
            assert!(refused(&text).message.contains(expected));
        }
    }
    assert!(
        refused(&with("", DISK).replace("</os>", "<smbios mode='sysinfo'/></os>"))
            .message
            .contains("needs a <sysinfo")
    );
}
