//! Machines with devices.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use baremetal::{Asm, pvh};
use vmm_protocol::config::{
    Balloon, Blk, Cache, Chardev, Console, ConsolePort, Discard, DiskIo, Image, Input, InputRole,
    Machine, Net, PciAddress, PciDevice, PciKind, Rng, RootPort, Video, VideoModel, Vsock,
    VsockHost, Watchdog, WatchdogAction,
};
use vmm_protocol::control::{BalloonStatistics, ControlErrorCode, Reply, Request};

use crate::disks;
use crate::needs_kvm;
use crate::rig::Rig;
use crate::sys;

pub(crate) fn device(id: &str, slot: u8, kind: PciKind) -> PciDevice {
    let address = PciAddress { bus: 0, slot, function: 0 };
    PciDevice { id: id.to_owned(), address, multifunction: false, boot_index: None, kind }
}

/// One device of every kind that a configuration can name; the interface only where the host lets
/// us make a tap.
pub(crate) fn one_of_each(rig: &mut Rig) -> Vec<PciDevice> {
    let disk = tempfile::tempfile().unwrap();
    disk.set_len(1 << 20).unwrap();
    let mut devices = vec![
        device("port1", 2, PciKind::RootPort(RootPort { controller: 1, chassis: 1, port: 0x10 })),
        device("virtio-disk0", 3, PciKind::Blk(blk(rig, disk))),
        device("rng0", 4, PciKind::Rng(Rng { rate: None, io_thread: 0 })),
        device("console0", 5, PciKind::Console(console())),
        device("watchdog0", 9, watchdog(WatchdogAction::Reset)),
        device("input0", 10, PciKind::Input(Input { role: InputRole::Tablet, io_thread: 0 })),
        device("balloon0", 8, PciKind::Balloon(balloon())),
    ];
    let place = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(place.path().join("vsock")).unwrap();
    let host = VsockHost::Socket { listener: rig.add(listener) };
    devices.push(device("vsock0", 12, PciKind::Vsock(Vsock { cid: 3, host })));
    devices.push(device("video0", 11, PciKind::Video(video(rig, VideoModel::Vga))));
    let (stream, _) = UnixStream::pair().unwrap();
    let net = Net {
        taps: Vec::new(),
        stream: Some(rig.add(stream)),
        vhost: Vec::new(),
        mac: [0x52, 0x54, 0, 1, 2, 3],
        mtu: Some(1500),
        link_up: true,
        offloads: true,
        queues: vec![0],
        queue_size: 256,
        rom: None,
    };
    devices.push(device("net1", 0x16, PciKind::Net(net.clone())));
    match sys::open_tap("manortest%d") {
        Ok(tap) => {
            // Where the host's kernel can, it serves this one.
            let vhost = File::options().read(true).write(true).open("/dev/vhost-net");
            let vhost = vhost.ok().map(|vhost| rig.add(vhost));
            let net = Net {
                taps: vec![rig.add(tap)],
                stream: None,
                vhost: vhost.into_iter().collect(),
                ..net
            };
            devices.push(device("net0", 6, PciKind::Net(net)));
        }
        Err(error) => println!("no interface in this test: {error}"),
    }
    // Behind the port: another way through the routing.
    let disk = tempfile::tempfile().unwrap();
    disk.set_len(1 << 20).unwrap();
    let mut behind = device("virtio-disk1", 0, PciKind::Blk(blk(rig, disk)));
    behind.address.bus = 1;
    devices.push(behind);
    devices.push(device("scsi0", 0x14, PciKind::Scsi(disks::scsi(rig))));
    let mut ahci = device("ide", 0x1f, PciKind::Ahci(disks::ahci(rig)));
    ahci.address.function = 2;
    devices.push(ahci);
    devices.push(device("nvme0", 0x15, PciKind::Nvme(disks::nvme(rig))));
    // Whoever adds a kind comes past here, and adds it above; IDE is on the other board, in `save`.
    for device in &devices {
        match &device.kind {
            PciKind::RootPort(_)
            | PciKind::Blk(_)
            | PciKind::Scsi(_)
            | PciKind::Ahci(_)
            | PciKind::Ide(_)
            | PciKind::Nvme(_)
            | PciKind::Net(_)
            | PciKind::Console(_)
            | PciKind::Rng(_)
            | PciKind::Balloon(_)
            | PciKind::Vsock(_)
            | PciKind::Input(_)
            | PciKind::Watchdog(_)
            | PciKind::Video(_) => {}
        }
    }
    devices
}

pub(crate) fn blk(rig: &mut Rig, disk: File) -> Blk {
    Blk {
        image: Image::Raw { file: rig.add(disk) },
        read_only: false,
        cache: Cache::Writeback,
        discard: Discard::Unmap,
        serial: "test".to_owned(),
        logical_block_size: 512,
        io: DiskIo::Uring,
        queues: vec![0, 0],
        queue_size: 128,
    }
}

pub(crate) fn watchdog(action: WatchdogAction) -> PciKind {
    PciKind::Watchdog(Watchdog { action })
}

fn balloon() -> Balloon {
    Balloon {
        current: 32 << 20,
        deflate_on_oom: true,
        free_page_reporting: true,
        statistics_period: 1,
        io_thread: 0,
    }
}

fn console() -> Console {
    let port = |number: u32, name: Option<&str>| ConsolePort {
        agent: false,
        id: format!("port{number}"),
        number,
        name: name.map(str::to_owned),
        chardev: Chardev::default(),
    };
    Console { ports: vec![port(0, None), port(1, Some("org.qemu.guest_agent.0"))], io_thread: 0 }
}

pub(crate) fn video(rig: &mut Rig, model: VideoModel) -> Video {
    let mut rom = tempfile::tempfile().unwrap();
    rom.write_all(&[0x55, 0xaa, 1]).unwrap();
    // As long as it says.
    rom.set_len(512).unwrap();
    rom.rewind().unwrap();
    Video { model, memory: 1 << 20, resolution: (1024, 768), rom: Some(rig.add(rom)) }
}

/// Prints the first dword of each function's configuration space.
fn print_functions(asm: &mut Asm, slots: &[u8]) {
    for slot in slots {
        asm.pci_read(*slot, 0, 0).print_eax().print(" ");
    }
}

#[test]
fn devices_sit_where_the_configuration_puts_them() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        print_functions(asm, &[0, 2, 3, 4, 5, 7, 0x1f]);
        asm.power_off();
    });
    let mut rig = Rig::new(&kernel);
    let devices = one_of_each(&mut rig);
    let (_, _, serial) = rig.devices(devices).start().wait();
    assert_eq!(serial, "29c08086 000c1b36 10421af4 10441af4 10431af4 ffffffff 29188086 ");
}

#[test]
fn the_pc_platform_shows_its_own_board() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        print_functions(asm, &[0, 1]);
        asm.pci_read(1, 3, 0).print_eax().power_off();
    });
    let mut rig = Rig::new(&kernel);
    rig.config.platform.machine = Machine::Pc;
    let (_, _, serial) = rig.start().wait();
    assert_eq!(serial, "12378086 70008086 71138086");
}

#[test]
fn memory_is_asked_for_through_the_balloon_and_refused_without_one() {
    needs_kvm!();
    let ask = |devices: Vec<PciDevice>| {
        let mut guest = Rig::new(&crate::machine::ticking()).devices(devices).start();
        guest.wait_serial("ticks", |serial| serial.len() > 1);
        let (mut client, _) = guest.greet();
        let set = client.ask(Request::SetMemory { bytes: 48 << 20 });
        let period = client.ask(Request::SetStatisticsPeriod { seconds: 2 });
        let Ok(Reply::Statistics(statistics)) = client.ask(Request::Statistics) else { panic!() };
        (set.map_err(|error| error.code), period.map_err(|e| e.code), statistics.balloon)
    };
    let (set, period, figures) = ask(vec![device("balloon0", 8, PciKind::Balloon(balloon()))]);
    assert_eq!((set, period), (Ok(Reply::Done), Ok(Reply::Done)));
    // This guest has no driver for it, so it has all of its memory and says nothing.
    let nothing = BalloonStatistics { memory: 64 << 20, ..BalloonStatistics::default() };
    assert_eq!(figures, Some(nothing));
    let missing = ControlErrorCode::NotFound;
    assert_eq!(ask(Vec::new()), (Err(missing), Err(missing), None));
}

#[test]
fn a_device_on_a_taken_place_is_refused_by_name() {
    needs_kvm!();
    let mut rig = Rig::new(&pvh(|asm| _ = asm.power_off()));
    let mut devices = one_of_each(&mut rig);
    devices[3].address = devices[2].address;
    let (_, record, _) = rig.devices(devices).start().wait();
    let text = format!("{:?}", record.reason);
    assert!(text.contains("console0") && text.contains("rng0"), "{text}");
}
