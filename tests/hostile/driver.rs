//! A virtio driver that is written while the guest is: rings, indices and buffers are known when the
//! code is emitted, so an attack is a list of plain stores. What the device answers is checked
//! inside the guest, which reports the first thing that is not as it should be.

use baremetal::Width::{Byte, Dword, Word};
use baremetal::{Asm, Label, Width};

use crate::vm::{BALLOON, CONSOLE, DISK, NET, READ_ONLY_DISK, RNG, SCSI, VSOCK};

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// The common configuration structure, at offset 0 of the BAR.
pub(crate) mod common {
    pub(crate) const DRIVER_FEATURE_SELECT: u32 = 0x08;
    pub(crate) const DRIVER_FEATURE: u32 = 0x0c;
    pub(crate) const STATUS: u32 = 0x14;
    pub(crate) const QUEUE_SELECT: u32 = 0x16;
    pub(crate) const QUEUE_SIZE: u32 = 0x18;
    pub(crate) const QUEUE_VECTOR: u32 = 0x1a;
    pub(crate) const QUEUE_ENABLE: u32 = 0x1c;
    pub(crate) const DESCRIPTORS: u32 = 0x20;
    pub(crate) const AVAILABLE: u32 = 0x28;
    pub(crate) const USED: u32 = 0x30;
}
pub(crate) const NOTIFY: u32 = 0x3000;
pub(crate) const MSIX_TABLE: u32 = 0x4000;
pub(crate) const BAR_SIZE: u32 = 0x8000;

pub(crate) const NEEDS_RESET: u32 = 0x40;
/// ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK.
pub(crate) const RUNNING: u32 = 0xf;

pub(crate) const VERSION_1: u64 = 1 << 32;
pub(crate) const INDIRECT_DESC: u64 = 1 << 28;
pub(crate) const EVENT_IDX: u64 = 1 << 29;

const PM_TIMER: u16 = 0x608;
const ROUNDS: u32 = 400_000;
/// One word below everything else that the guest uses.
const SAVED: u32 = 0x7f_f000;

/// The driver's side of one queue.
#[derive(Debug, Clone)]
pub(crate) struct Ring {
    pub(crate) base: u32,
    pub(crate) size: u16,
    /// What the device offers.
    pub(crate) max: u16,
    pub(crate) available: u16,
    pub(crate) used: u16,
    next: u16,
}

impl Ring {
    pub(crate) fn descriptors(&self) -> u32 {
        self.base
    }

    pub(crate) fn avail(&self) -> u32 {
        self.base + 0x4000
    }

    pub(crate) fn used_ring(&self) -> u32 {
        self.base + 0x6000
    }
}

/// What an ordinary request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Disk,
    ReadOnlyDisk,
    Rng,
    Net,
    Console,
    Balloon,
    Vsock,
    Scsi,
}

#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) slot: u8,
    pub(crate) kind: Kind,
    pub(crate) bar: u32,
    /// RAM for buffers, 512 KiB.
    pub(crate) buffers: u32,
    pub(crate) features: u64,
    pub(crate) rings: Vec<Ring>,
}

impl Device {
    fn new(slot: u8, kind: Kind) -> Self {
        let area = 0x80_0000 + u32::from(slot) * 0x10_0000;
        let (queues, size): (u32, u16) = match kind {
            Kind::Rng => (1, 64),
            Kind::Console => (2, 64),
            Kind::Balloon => (4, 128),
            Kind::Vsock => (2, 128),
            // Control, events, requests.
            Kind::Scsi => (3, 256),
            Kind::Disk | Kind::ReadOnlyDisk | Kind::Net => (2, 256),
        };
        let ring = |index| Ring {
            base: area + index * 0x1_0000,
            size,
            max: size,
            available: 0,
            used: 0,
            next: 0,
        };
        Self {
            slot,
            kind,
            bar: 0xc000_0000 + u32::from(slot) * 0x10_0000,
            buffers: area + 0x8_0000,
            features: VERSION_1 | INDIRECT_DESC,
            rings: (0..queues).map(ring).collect(),
        }
    }

    pub(crate) fn all(net: bool) -> Vec<Self> {
        let mut all = vec![
            Self::new(DISK, Kind::Disk),
            Self::new(READ_ONLY_DISK, Kind::ReadOnlyDisk),
            Self::new(RNG, Kind::Rng),
            Self::new(CONSOLE, Kind::Console),
            Self::new(VSOCK, Kind::Vsock),
        ];
        if net {
            all.push(Self::new(NET, Kind::Net));
        }
        all
    }

    /// Apart from the others: what it is given to read decides which of the guest's pages go.
    pub(crate) fn balloon() -> Self {
        let mut balloon = Self::new(BALLOON, Kind::Balloon);
        // Statistics, deflation by the driver, reporting.
        balloon.features |= 1 << 1 | 1 << 2 | 1 << 5;
        balloon
    }

    /// With one queue more of the device's than an ordinary driver uses.
    pub(crate) fn add_queue(&mut self, size: u16) {
        let index = self.rings.len() as u32;
        let base = self.rings[0].base + index * 0x1_0000;
        let (available, used, next) = (0, 0, 0);
        self.rings.push(Ring { base, size, max: size, available, used, next });
    }

    /// Only where [`Setup::controllers`](crate::vm::Setup) are.
    pub(crate) fn scsi() -> Self {
        Self::new(SCSI, Kind::Scsi)
    }

    /// The queue that takes requests from the driver.
    pub(crate) fn queue(&self) -> u16 {
        match self.kind {
            Kind::Net | Kind::Console | Kind::Vsock => 1,
            Kind::Scsi => 2,
            _ => 0,
        }
    }

    pub(crate) fn ring(&mut self) -> &mut Ring {
        let queue = self.queue();
        &mut self.rings[usize::from(queue)]
    }

    /// Whether its requests take only buffers that it writes.
    pub(crate) fn fills(&self) -> bool {
        self.kind == Kind::Rng
    }
}

/// A buffer: address, length, flags (NEXT is added where one follows).
pub(crate) type Buffer = (u64, u32, u16);

/// A guest in the writing.
pub(crate) struct Guest<'a> {
    pub(crate) asm: &'a mut Asm,
    failed: Label,
    pattern: u32,
}

/// A kernel that does what `body` says, then says `DONE` and powers off.
pub(crate) fn kernel(body: impl FnOnce(&mut Guest<'_>)) -> Vec<u8> {
    baremetal::long_mode(|asm| {
        let failed = asm.label();
        let mut guest = Guest { asm, failed, pattern: 0x1111_0000 };
        body(&mut guest);
        guest.asm.print("DONE\n").place(failed).power_off();
    })
}

impl Guest<'_> {
    /// Attack each of `targets` in turn: whatever happens to it, the other devices go on
    /// undisturbed, and it works itself once its driver has reset it.
    pub(crate) fn case(
        &mut self,
        name: &str,
        devices: &mut [Device],
        targets: &[Kind],
        mut attack: impl FnMut(&mut Self, &mut Device),
    ) {
        for target in 0..devices.len() {
            if !targets.is_empty() && !targets.contains(&devices[target].kind) {
                continue;
            }
            self.asm.print(&format!("{name}, {:?}\n", devices[target].kind));
            attack(self, &mut devices[target]);
            for (index, device) in devices.iter_mut().enumerate() {
                if index == target {
                    self.bring_up(device);
                }
                self.works(device);
            }
            self.asm.print("contained\n");
        }
    }

    /// All devices at their places, brought up and at work.
    pub(crate) fn start(&mut self, devices: &mut [Device]) {
        for device in devices {
            self.place(device);
            self.bring_up(device);
            self.works(device);
        }
    }

    // Checks.

    /// EAX is `value`, or the guest ends.
    pub(crate) fn expect(&mut self, what: &str, value: u32) {
        let good = self.asm.label();
        self.asm.jump_if_eax_is(value, good);
        self.fail(what);
        self.asm.place(good);
    }

    fn fail(&mut self, what: &str) {
        self.asm.store(Dword, SAVED).print(&format!("FAILED: {what}: "));
        self.asm.load(Dword, SAVED).print_eax().print("\n").jump(self.failed);
    }

    /// Ask until EAX is `value`.
    pub(crate) fn wait(&mut self, what: &str, value: u32, ask: impl FnOnce(&mut Asm)) {
        let good = self.asm.label();
        self.asm.raw(&[0xbe]).raw(&ROUNDS.to_le_bytes()); // mov esi, ROUNDS
        let again = self.asm.here();
        ask(self.asm);
        self.asm.jump_if_eax_is(value, good).store(Dword, SAVED);
        // An exit to the VMM, which costs more than what is waited for should.
        self.asm.read_port(Dword, PM_TIMER);
        self.asm.raw(&[0xff, 0xce, 0x89, 0xf0]); // dec esi; mov eax, esi
        self.asm.jump_unless_eax_is(0, again).load(Dword, SAVED);
        self.fail(what);
        self.asm.place(good);
    }

    /// Let time pass, as the VMM sees it.
    pub(crate) fn pause(&mut self, exits: u32) {
        self.asm.repeat(exits, |asm| {
            asm.read_port(Dword, PM_TIMER);
        });
    }

    // The PCI function.

    /// Put the BAR where the driver wants it.
    pub(crate) fn place(&mut self, device: &Device) {
        self.move_bar(device, device.bar.into());
    }

    pub(crate) fn move_bar(&mut self, device: &Device, base: u64) {
        self.asm.pci_write(device.slot, 0, 0x04, 0);
        self.asm.pci_write(device.slot, 0, 0x10, base as u32);
        self.asm.pci_write(device.slot, 0, 0x14, (base >> 32) as u32);
        self.asm.pci_write(device.slot, 0, 0x04, 6);
    }

    pub(crate) fn write(&mut self, device: &Device, width: Width, register: u32, value: u32) {
        self.asm.poke(width, device.bar + register, value);
    }

    pub(crate) fn read(&mut self, device: &Device, width: Width, register: u32) {
        self.asm.load(width, device.bar + register);
    }

    /// Read back: the register is `value`.
    pub(crate) fn reads(&mut self, device: &Device, what: &str, width: Width, at: u32, value: u32) {
        self.read(device, width, at);
        self.expect(what, value);
    }

    pub(crate) fn write_u64(&mut self, device: &Device, register: u32, value: u64) {
        self.write(device, Dword, register, value as u32);
        self.write(device, Dword, register + 4, (value >> 32) as u32);
    }

    // The life of a device.

    pub(crate) fn reset(&mut self, device: &mut Device) {
        self.write(device, Byte, common::STATUS, 0);
        self.reads(device, "status after reset", Byte, common::STATUS, 0);
        for ring in &mut device.rings {
            (ring.available, ring.used, ring.next) = (0, 0, 0);
            self.asm.poke(Dword, ring.avail(), 1); // no interrupts; index 0
            self.asm.poke(Dword, ring.used_ring(), 0);
        }
    }

    /// Everything up to the queues.
    pub(crate) fn negotiate(&mut self, device: &mut Device) {
        self.reset(device);
        self.write(device, Byte, common::STATUS, 1);
        self.write(device, Byte, common::STATUS, 3);
        for half in 0..2 {
            self.write(device, Dword, common::DRIVER_FEATURE_SELECT, half);
            let bits = (device.features >> (32 * half)) as u32;
            self.write(device, Dword, common::DRIVER_FEATURE, bits);
        }
        self.write(device, Byte, common::STATUS, 0xb);
        self.reads(device, "status with features", Byte, common::STATUS, 0xb);
    }

    pub(crate) fn set_up_queue(&mut self, device: &Device, index: usize) {
        let ring = &device.rings[index];
        self.write(device, Word, common::QUEUE_SELECT, index as u32);
        self.write(device, Word, common::QUEUE_SIZE, ring.size.into());
        self.write_u64(device, common::DESCRIPTORS, ring.descriptors().into());
        self.write_u64(device, common::AVAILABLE, ring.avail().into());
        self.write_u64(device, common::USED, ring.used_ring().into());
        self.write(device, Word, common::QUEUE_ENABLE, 1);
    }

    pub(crate) fn go(&mut self, device: &Device) {
        self.write(device, Byte, common::STATUS, RUNNING);
    }

    pub(crate) fn bring_up(&mut self, device: &mut Device) {
        self.negotiate(device);
        for index in 0..device.rings.len() {
            self.set_up_queue(device, index);
        }
        self.go(device);
        self.reads(device, "status when running", Byte, common::STATUS, RUNNING);
    }

    // Requests.

    pub(crate) fn descriptor(&mut self, table: u32, index: u16, buffer: Buffer, next: u16) {
        let at = table + 16 * u32::from(index);
        let (gpa, len, flags) = buffer;
        self.asm.poke(Dword, at, gpa as u32);
        self.asm.poke(Dword, at + 4, (gpa >> 32) as u32);
        self.asm.poke(Dword, at + 8, len);
        self.asm.poke(Dword, at + 12, u32::from(flags) | u32::from(next) << 16);
    }

    pub(crate) fn offer(&mut self, ring: &mut Ring, head: u16) {
        let slot = u32::from(ring.available % ring.size);
        self.asm.poke(Word, ring.avail() + 4 + 2 * slot, head.into());
        ring.available = ring.available.wrapping_add(1);
        self.asm.poke(Word, ring.avail() + 2, ring.available.into());
    }

    /// Link `buffers` into a chain and offer it, without a kick.
    pub(crate) fn offer_chain(&mut self, ring: &mut Ring, buffers: &[Buffer]) -> u16 {
        let head = ring.next % ring.size;
        for (position, (gpa, len, flags)) in buffers.iter().enumerate() {
            let index = ring.next % ring.size;
            ring.next = ring.next.wrapping_add(1);
            let more = if position + 1 < buffers.len() { NEXT } else { 0 };
            let next = ring.next % ring.size;
            self.descriptor(ring.descriptors(), index, (*gpa, *len, flags | more), next);
        }
        self.offer(ring, head);
        head
    }

    /// Offer a request that keeps the device busy for a while.
    pub(crate) fn offer_busy(&mut self, device: &mut Device) {
        let header = u64::from(device.buffers);
        let (status, data) = (header + 0x800, header + 0x1000);
        let buffers: &[Buffer] = match device.kind {
            Kind::Disk | Kind::ReadOnlyDisk => {
                &[(header, 16, 0), (data, 0x1_0000, WRITE), (status, 1, WRITE)]
            }
            Kind::Rng => &[(data, 0x1_0000, WRITE)],
            Kind::Net | Kind::Console | Kind::Vsock => &[(data, 1500, 0)],
            Kind::Balloon => &[(data, 4, 0)],
            // A read of 64 KiB: its command was put there by `works`.
            Kind::Scsi => &[(header, 51, 0), (status, 108, WRITE), (data, 0x1_0000, WRITE)],
        };
        self.offer_chain(device.ring(), buffers);
    }

    pub(crate) fn kick(&mut self, device: &Device, queue: u16) {
        self.write(device, Word, NOTIFY + 4 * u32::from(queue), queue.into());
    }

    /// Offer on the queue for requests, and kick.
    pub(crate) fn submit(&mut self, device: &mut Device, buffers: &[Buffer]) {
        self.offer_chain(device.ring(), buffers);
        self.kick(device, device.queue());
    }

    /// Offer on any queue, and kick.
    pub(crate) fn submit_to(&mut self, device: &mut Device, queue: usize, buffers: &[Buffer]) {
        self.offer_chain(&mut device.rings[queue], buffers);
        self.kick(device, queue as u16);
    }

    /// It runs, or says that it does not.
    pub(crate) fn runs_or_is_broken(&mut self, device: &Device) {
        self.read(device, Byte, common::STATUS);
        self.asm.and_eax(!NEEDS_RESET);
        self.expect("status", RUNNING);
    }

    /// It runs.
    pub(crate) fn runs(&mut self, device: &Device) {
        self.reads(device, "status", Byte, common::STATUS, RUNNING);
    }

    /// `count` more chains come back on the queue for requests.
    pub(crate) fn wait_used(&mut self, device: &mut Device, count: u16) {
        let queue = usize::from(device.queue());
        self.wait_used_on(device, queue, count);
    }

    /// `count` more chains come back on this queue.
    pub(crate) fn wait_used_on(&mut self, device: &mut Device, queue: usize, count: u16) {
        let ring = &mut device.rings[queue];
        ring.used = ring.used.wrapping_add(count);
        let (at, index) = (ring.used_ring() + 2, ring.used);
        self.wait("used index", index.into(), |asm| {
            asm.load(Word, at);
        });
    }

    /// The device says that it needs a reset.
    pub(crate) fn wait_broken(&mut self, device: &Device) {
        let at = device.bar + common::STATUS;
        self.wait("status of a broken device", NEEDS_RESET | RUNNING, |asm| {
            asm.load(Byte, at);
        });
    }

    /// A request of the disk: its status byte comes back in EAX.
    pub(crate) fn disk_request(
        &mut self,
        device: &mut Device,
        kind: u32,
        sector: u64,
        data: &[Buffer],
    ) {
        let (header, status) = (device.buffers, device.buffers + 0x40);
        self.asm.poke(Dword, header, kind).poke(Dword, header + 4, 0);
        self.asm.poke(Dword, header + 8, sector as u32);
        self.asm.poke(Dword, header + 12, (sector >> 32) as u32);
        self.asm.poke(Byte, status, 0xff);
        let mut buffers = vec![(header.into(), 16, 0)];
        buffers.extend_from_slice(data);
        buffers.push((status.into(), 1, WRITE));
        self.submit(device, &buffers);
        self.wait_used(device, 1);
        self.asm.load(Byte, status);
    }

    /// The header of a packet to a port where nobody is; `what`: type, and operation above it.
    pub(crate) fn vsock_packet(&mut self, at: u32, what: u32, len: u32) {
        let header = [3, 0, 2, 0, 1, 2, len, what, 0, 0x1_0000, 0];
        for (offset, value) in (0..).step_by(4).zip(header) {
            self.asm.poke(Dword, at + offset, value);
        }
    }

    /// A command of unit `lun` with room for so much data at 0x1000 of the buffers: its status comes
    /// back in EAX.
    pub(crate) fn scsi_command(
        &mut self,
        device: &mut Device,
        lun: u8,
        cdb: &[u8],
        room: Option<u32>,
    ) {
        let (header, answer) = (device.buffers, device.buffers + 0x800);
        for at in 0..13 {
            self.asm.poke(Dword, header + 4 * at, 0);
        }
        self.asm.poke(Dword, header, 1 | u32::from(lun) << 24);
        for (at, byte) in (header + 19..).zip(cdb) {
            self.asm.poke(Byte, at, (*byte).into());
        }
        self.asm.poke(Dword, answer + 8, u32::MAX);
        let mut buffers = vec![(header.into(), 51, 0), (answer.into(), 108, WRITE)];
        buffers.extend(room.map(|len| (u64::from(header) + 0x1000, len, WRITE)));
        self.submit(device, &buffers);
        self.wait_used(device, 1);
        self.asm.load(Byte, answer + 10);
    }

    /// An ordinary request succeeds.
    pub(crate) fn works(&mut self, device: &mut Device) {
        let data = device.buffers + 0x200;
        match device.kind {
            Kind::Disk => {
                self.pattern += 1;
                let pattern = self.pattern;
                self.asm.poke(Dword, data, pattern);
                self.disk_request(device, 1, 3, &[(data.into(), 512, 0)]);
                self.expect("status of a write", 0);
                self.asm.poke(Dword, data, 0);
                self.disk_request(device, 0, 3, &[(data.into(), 512, WRITE)]);
                self.expect("status of a read", 0);
                self.asm.load(Dword, data);
                self.expect("data that was written", pattern);
            }
            Kind::ReadOnlyDisk => {
                self.asm.poke(Dword, data, 0);
                self.disk_request(device, 0, 3, &[(data.into(), 512, WRITE)]);
                self.expect("status of a read", 0);
                self.asm.load(Dword, data);
                self.expect("data of the read-only disk", 0x5a5a_5a5a);
            }
            Kind::Rng => {
                self.submit(device, &[(data.into(), 32, WRITE)]);
                let ring = device.ring();
                let at = ring.used_ring() + 8 + 8 * u32::from(ring.used % ring.size);
                self.wait_used(device, 1);
                self.asm.load(Dword, at);
                self.expect("random bytes", 32);
            }
            Kind::Net => {
                for at in (0..76).step_by(4) {
                    let value = if (12..18).contains(&at) { u32::MAX } else { 0 };
                    self.asm.poke(Dword, data + at, value);
                }
                self.submit(device, &[(data.into(), 12, 0), ((data + 12).into(), 64, 0)]);
                self.wait_used(device, 1);
            }
            Kind::Console => {
                self.asm.poke(Dword, data, u32::from_le_bytes(*b"text"));
                self.submit(device, &[(data.into(), 4, 0)]);
                self.wait_used(device, 1);
            }
            Kind::Vsock => {
                self.vsock_packet(data, 1 << 16 | 1, 0);
                self.submit(device, &[(data.into(), 44, 0)]);
                self.wait_used(device, 1);
            }
            Kind::Scsi => {
                // The attention of a reset is the first answer.
                self.scsi_command(device, 0, &[0], None);
                self.scsi_command(device, 0, &[0x28, 0, 0, 0, 0, 9, 0, 0, 128], Some(0x1_0000));
                self.expect("status of a SCSI read", 0);
                self.asm.load(Dword, device.buffers + 0x1000);
                self.expect("data of the SCSI disk", 0x5a5a_5a5a);
            }
            Kind::Balloon => {
                let page = device.buffers + 0x1_0000;
                self.asm.poke(Dword, page, 0x5a5a_5a5a).poke(Dword, data, page >> 12);
                self.submit(device, &[(data.into(), 4, 0)]);
                self.wait_used(device, 1);
                self.asm.load(Dword, page);
                self.expect("a page that was in the balloon", 0);
            }
        }
    }
}
