//! Virtio devices under a driver that sends anything: chains of every shape, at rings that it writes itself when it
//! likes.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use memory::{GuestRam, IoBuffers};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Script;
use super::board::{LAYOUT, MemoryDisk, Nobody, Still, ram, thread, unit};
use super::function::Function;
use crate::backend::packet::{Offloads, PacketBackend};
use crate::pci::PciFunction as _;
use crate::scsi::UnitKind;
use crate::virtio::VirtioDevice;
use crate::virtio::balloon::{Balloon, BalloonSpec};
use crate::virtio::blk::{Block, BlockSpec};
use crate::virtio::console::{Console, PortConfig};
use crate::virtio::device::features;
use crate::virtio::input::{Input, Role};
use crate::virtio::net::{Net, NetConfig};
use crate::virtio::pci::{PciParts, VirtioPci};
use crate::virtio::rng::Rng;
use crate::virtio::scsi::{Scsi, ScsiSpec, UnitAt};
use crate::virtio::vsock::{Sockets, Vsock};

const QUEUE_SIZE: u16 = 16;
/// Rings of queue n, and what its chains are made of.
const RINGS: u64 = 0x1000;
const RINGS_STEP: u64 = 0x1000;
const AVAILABLE: u64 = 0x400;
const USED: u64 = 0x800;
const READABLE: u64 = 0x1_8000;
const WRITABLE: u64 = 0x2_8000;

const STATUS: u64 = 0x14;
const NOTIFY: u64 = 0x3000;

/// A network where nobody is.
struct Silence(EventFd);

impl PacketBackend for Silence {
    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
    fn receive(&self, _buffers: &IoBuffers) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn receive_copy(&self, _packet: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn send(&self, packet: &IoBuffers) -> io::Result<()> {
        // All of it is looked at.
        let mut bytes = vec![0; packet.len() as usize];
        packet.peek(&mut bytes);
        Ok(())
    }
    fn set_offloads(&self, _offloads: Offloads) -> io::Result<()> {
        Ok(())
    }
    fn set_enabled(&self, _enabled: bool) -> io::Result<()> {
        Ok(())
    }
}

pub fn virtio_blk(data: &[u8]) {
    let read_only = data.first().is_some_and(|byte| byte & 1 != 0);
    drive(data, |_| {
        Ok(Box::new(Block::new(BlockSpec {
            disk: MemoryDisk::new(read_only),
            threads: vec![thread(), thread()],
            queue_size: QUEUE_SIZE,
            serial: "torture".to_owned(),
        })))
    });
}

pub fn virtio_scsi(data: &[u8]) {
    drive(data, |_| {
        Ok(Box::new(Scsi::new(ScsiSpec {
            units: vec![
                UnitAt { target: 0, lun: 0, unit: unit(UnitKind::Disk) },
                UnitAt { target: 1, lun: 300, unit: unit(UnitKind::Cdrom) },
            ],
            thread: thread(),
            queues: 1,
            queue_size: QUEUE_SIZE,
            depth: 4,
        })?))
    });
}

pub fn virtio_net(data: &[u8]) {
    drive(data, |_| {
        let silence = Arc::new(Silence(EventFd::new(EFD_NONBLOCK)?));
        Ok(Box::new(Net::new(NetConfig {
            mac: [0x52, 0x54, 0, 0, 0, 1],
            mtu: Some(1500),
            link_up: true,
            rx_queue_size: QUEUE_SIZE,
            tx_queue_size: QUEUE_SIZE,
            without: 0,
            pairs: vec![(silence.clone(), thread()), (silence, thread())],
        })))
    });
}

pub fn virtio_console(data: &[u8]) {
    let port = |name: Option<&str>| {
        Some(PortConfig {
            name: name.map(str::to_owned),
            console: name.is_none(),
            held_open: false,
            backend: Arc::new(Nobody),
        })
    };
    drive(data, |_| Ok(Box::new(Console::new(vec![port(None), None, port(Some("x"))], thread())?)));
}

/// The small ones: their first byte says which.
pub fn virtio_small(data: &[u8]) {
    let which = data.first().map_or(0, |byte| byte >> 6);
    drive(data, |_| {
        Ok(match which {
            0 => Box::new(Rng::new(thread(), None)?),
            1 => Box::new(Input::new(Role::Tablet, thread())?),
            _ => Box::new(Balloon::new(BalloonSpec {
                memory: LAYOUT.iter().map(|(_, len)| len).sum(),
                current: 0x4_0000,
                deflate_on_oom: true,
                free_page_reporting: true,
                statistics_period: 0,
                thread: thread(),
                clock: Arc::new(Still::default()),
            })?),
        })
    });
}

/// Ports of the host are unix sockets; nobody listens at any.
pub fn virtio_vsock(data: &[u8]) {
    let Ok(place) = Place::new() else { return };
    drive(data, |_| {
        let listener = UnixListener::bind(place.0.join("s"))?;
        let sockets = Sockets::new(listener.into(), 3)?;
        Ok(Box::new(Vsock::through(3, sockets, thread())))
    });
}

/// A directory that goes with this value.
struct Place(std::path::PathBuf);

impl Place {
    fn new() -> io::Result<Self> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("manor-torture-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// ```text
/// u8 of the device's own   4 bytes of features that are not accepted
/// steps: u8 what   below 7: as every function   7: a chain: u8 queue, u8 length readable in two pieces, bytes,
///                  u8 length writable / 4 in two pieces, kicked   8: u8 queue, its doorbell   9: brought up anew
/// ```
fn drive(data: &[u8], device: impl FnOnce(&GuestRam) -> io::Result<Box<dyn VirtioDevice>>) {
    let ram = ram();
    let Ok(device) = device(&ram) else { return };
    let parts = PciParts {
        id: "virtio0",
        ram: ram.clone(),
        msi: &Nobody,
        doorbells: Arc::new(Nobody),
        intx: Some((1, Arc::new(Nobody))),
        express: None,
        rom: None,
        on_broken: Box::new(|_| {}),
    };
    let Ok(function) = VirtioPci::new(parts, device) else { return };
    function.bar_moved(0, Some(0x8000_0000));
    let mut driver = Driver { function: &function, ram: &ram, refused: 0, available: [0; 16] };
    let everyone = Function::new(&function, &ram, &[(0, 0x8000)]);
    let mut script = Script(data);
    script.byte();
    driver.refused = u64::from(script.number());
    driver.bring_up();
    while !script.is_over() {
        match script.byte() % 10 {
            7 => {
                driver.chain(&mut script);
                everyone.settle();
            }
            8 => driver.kick(script.byte().into()),
            9 => driver.bring_up(),
            what => everyone.step(what, &mut script),
        }
    }
    everyone.end();
}

struct Driver<'a> {
    function: &'a VirtioPci,
    ram: &'a GuestRam,
    refused: u64,
    /// Chains that each queue was offered.
    available: [u16; 16],
}

impl Driver<'_> {
    fn write(&self, at: u64, width: usize, value: u64) {
        let _ = self.function.bar_write(0, at, &value.to_le_bytes()[..width]);
    }

    fn read(&self, at: u64, width: usize) -> u64 {
        let mut data = [0; 8];
        self.function.bar_read(0, at, &mut data[..width]);
        u64::from_le_bytes(data)
    }

    fn bring_up(&mut self) {
        let _ = self.function.config_write(4, &[6, 0]);
        self.write(STATUS, 1, 0);
        self.write(STATUS, 1, 3);
        let mut offered = 0;
        for half in 0..2 {
            self.write(0, 4, half);
            offered |= self.read(4, 4) << (32 * half);
        }
        let accepted = offered & !self.refused | features::VERSION_1;
        for half in 0..2 {
            self.write(8, 4, half);
            self.write(0xc, 4, accepted >> (32 * half) & 0xffff_ffff);
        }
        self.write(STATUS, 1, 0xb);
        for index in 0..self.queues() {
            let base = RINGS + RINGS_STEP * index;
            let _ = self.ram.write_slice(base, &[0; RINGS_STEP as usize]);
            self.write(0x16, 2, index);
            self.write(0x18, 2, QUEUE_SIZE.into());
            for (at, gpa) in [(0x20, base), (0x28, base + AVAILABLE), (0x30, base + USED)] {
                self.write(at, 4, gpa);
                self.write(at + 4, 4, 0);
            }
            self.write(0x1c, 2, 1);
        }
        self.available = [0; 16];
        self.write(STATUS, 1, 0xf);
    }

    fn queues(&self) -> u64 {
        self.read(0x12, 2).clamp(1, 16)
    }

    fn kick(&self, queue: u64) {
        let queue = queue % self.queues();
        self.write(NOTIFY + 4 * queue, 2, queue);
    }

    /// Up to two buffers to read, and up to two to write: from four slots of each queue in turn.
    fn chain(&mut self, script: &mut Script<'_>) {
        let queue = u64::from(script.byte()) % self.queues();
        let length = usize::from(script.byte());
        let bytes = script.take(length);
        let writable = u32::from(script.byte()) * 4;
        let base = RINGS + RINGS_STEP * queue;
        let number = self.available[queue as usize];
        let slot = number % 4;
        let place = u64::from(slot) * 0x800;
        let _ = self.ram.write_slice(READABLE + place, bytes);
        // The first byte may be a header of its own.
        let first = bytes.first().map_or(0, |byte| u32::from(*byte) % 64).min(bytes.len() as u32);
        let rest = bytes.len() as u32 - first;
        let split = (writable / 2).min(1);
        let buffers = [
            (READABLE + place, first, 0),
            (READABLE + place + u64::from(first), rest, 0),
            (WRITABLE + place, writable - split, 2),
            (WRITABLE + place + 0x400, split, 2),
        ];
        let buffers: Vec<_> = buffers.into_iter().filter(|(_, len, _)| *len > 0).collect();
        for (at, (gpa, len, flags)) in (0..).zip(&buffers) {
            let index = slot * 4 + at;
            let more = u16::from(usize::from(at) + 1 < buffers.len());
            let mut descriptor = gpa.to_le_bytes().to_vec();
            descriptor.extend(len.to_le_bytes());
            descriptor.extend((flags | more).to_le_bytes());
            descriptor.extend((index + 1).to_le_bytes());
            let _ = self.ram.write_slice(base + 16 * u64::from(index), &descriptor);
        }
        let entry = base + AVAILABLE + 4 + 2 * u64::from(number % QUEUE_SIZE);
        let _ = self.ram.write_slice(entry, &(slot * 4).to_le_bytes());
        self.available[queue as usize] = number.wrapping_add(1);
        let _ = self.ram.write_slice(base + AVAILABLE + 2, &number.wrapping_add(1).to_le_bytes());
        self.kick(queue);
    }
}
