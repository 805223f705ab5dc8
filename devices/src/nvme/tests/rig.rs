//! A driver of one controller, by hand: rings, doorbells and identities.

use std::fs::File;
use std::sync::Arc;

use memory::GuestRam;

use super::super::spec::{admin, *};
use super::super::*;
use crate::backend::Disk;
use crate::backend::held::{Held, HeldDisk};
use crate::backend::lane::Meter;
use crate::io_thread::IoThread;
use crate::pci::PciFunction;
use crate::scsi::tests::disk as image;
use crate::testing::FakeLine;
use crate::virtio::rig::driver::FakeMsi;
use crate::virtio::rig::{ram, wait_for};

pub(super) const MIB: u64 = 1 << 20;
/// Submission and completion queues, by number.
pub(super) const SUBMISSIONS: u64 = 0x1_0000;
pub(super) const COMPLETIONS: u64 = 0x2_0000;
pub(super) const LISTS: u64 = 0x3_0000;
pub(super) const DATA: u64 = 0x10_0000;
pub(super) const ENTRIES: u32 = 8;
pub(super) const DEALLOCATE: u32 = 1 << 2;

pub(super) struct Rig {
    pub(super) nvme: Nvme,
    pub(super) ram: GuestRam,
    pub(super) line: Arc<FakeLine>,
    pub(super) msi: Arc<FakeMsi>,
    pub(super) file: File,
    pub(super) tails: [u32; 3],
    pub(super) heads: [u32; 3],
    pub(super) phases: [u16; 3],
    pub(super) next_id: u16,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    pub(super) opcode: u8,
    pub(super) flags: u8,
    pub(super) namespace: u32,
    pub(super) pages: (u64, u64),
    pub(super) dwords: [u32; 6],
}

pub(super) fn nvme(
    ram: &GuestRam,
    disks: Vec<Arc<dyn Disk>>,
) -> (Nvme, Arc<FakeLine>, Arc<FakeMsi>) {
    let (line, msi) = (Arc::new(FakeLine::default()), Arc::new(FakeMsi::default()));
    let namespace =
        |disk| Namespace { disk, meter: Arc::<Meter>::default(), eui: Some(0x0011_2233_4455_6677) };
    let parts = NvmeParts {
        id: "nvme0",
        ram: ram.clone(),
        msi: &*msi,
        intx: line.clone(),
        express: None,
        thread: IoThread::spawn("nvme", || Ok(())).unwrap(),
        identity: NvmeIdentity { model: "MANOR NVME".to_owned(), serial: "s-1".to_owned() },
        namespaces: disks.into_iter().map(|disk| Some(namespace(disk))).collect(),
        queues: 2,
    };
    (Nvme::new(parts).unwrap(), line, msi)
}

impl Rig {
    pub(super) fn new() -> Self {
        let (disk, file) = image(4 * MIB, false);
        Self::with(disk, file)
    }

    pub(super) fn held(hold: bool) -> (Self, Arc<HeldDisk>) {
        let held = HeldDisk::new(MIB, hold);
        (Self::with(Arc::new(Held(held.clone())), tempfile::tempfile().unwrap()), held)
    }

    pub(super) fn with(disk: Arc<dyn Disk>, file: File) -> Self {
        let ram = ram();
        let read_only = image(MIB, true).0;
        let (nvme, line, msi) = nvme(&ram, vec![disk, read_only]);
        let _ = nvme.config_write(4, &[0x06, 0]);
        let mut rig = Self {
            nvme,
            ram,
            line,
            msi,
            file,
            tails: [0; 3],
            heads: [0; 3],
            phases: [1; 3],
            next_id: 0,
        };
        rig.bring_up();
        rig
    }

    pub(super) fn bring_up(&mut self) {
        self.write(register::CC, 0);
        wait_for("the reset", || self.read(register::CSTS) & csts::READY == 0);
        (self.tails, self.heads, self.phases) = ([0; 3], [0; 3], [1; 3]);
        self.ram.write_slice(COMPLETIONS, &[0; 0x3000]).unwrap();
        self.write(register::AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
        self.write(register::ASQ, SUBMISSIONS as u32);
        self.write(register::ACQ, COMPLETIONS as u32);
        self.write(register::ASQ_HIGH, 0);
        self.write(register::ACQ_HIGH, 0);
        self.write(register::CC, 0x0046_0001);
        wait_for("the controller", || self.read(register::CSTS) == csts::READY);
        assert_eq!(self.create(1), Status::SUCCESS);
    }

    /// The I/O queues of this number.
    pub(super) fn create(&mut self, number: u32) -> Status {
        let dwords = |eleven| [(ENTRIES - 1) << 16 | number, eleven, 0, 0, 0, 0];
        let place = |base: u64| (base + 0x1000 * u64::from(number), 0);
        let (status, _) = self.admin(Entry {
            opcode: admin::CREATE_CQ,
            pages: place(COMPLETIONS),
            dwords: dwords(number << 16 | 3),
            ..Entry::default()
        });
        assert_eq!(status, Status::SUCCESS);
        self.admin(Entry {
            opcode: admin::CREATE_SQ,
            pages: place(SUBMISSIONS),
            dwords: dwords(number << 16 | 1),
            ..Entry::default()
        })
        .0
    }

    pub(super) fn read(&self, at: u64) -> u32 {
        let mut data = [0; 4];
        self.nvme.bar_read(BAR, at, &mut data);
        u32::from_le_bytes(data)
    }

    pub(super) fn write(&self, at: u64, value: u32) {
        let _ = self.nvme.bar_write(BAR, at, &value.to_le_bytes());
    }

    pub(super) fn submit(&mut self, queue: usize, entry: Entry) -> u16 {
        let id = self.next_id;
        self.next_id += 1;
        let mut bytes = vec![entry.opcode, entry.flags];
        bytes.extend(id.to_le_bytes());
        bytes.extend(entry.namespace.to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend(entry.pages.0.to_le_bytes());
        bytes.extend(entry.pages.1.to_le_bytes());
        bytes.extend(entry.dwords.iter().flat_map(|dword| dword.to_le_bytes()));
        let at = SUBMISSIONS + 0x1000 * queue as u64 + 64 * u64::from(self.tails[queue]);
        self.ram.write_slice(at, &bytes).unwrap();
        self.tails[queue] = (self.tails[queue] + 1) % ENTRIES;
        self.write(DOORBELLS + 8 * queue as u64, self.tails[queue]);
        id
    }

    /// The next completion, if there is one: id, status, result.
    pub(super) fn completion(&mut self, queue: usize) -> Option<(u16, Status, u32)> {
        let at = COMPLETIONS + 0x1000 * queue as u64 + 16 * u64::from(self.heads[queue]);
        let dword = |index: u64| self.ram.read_obj::<u32>(at + 4 * index).unwrap();
        let last = dword(3);
        if (last >> 16 & 1) as u16 != self.phases[queue] {
            return None;
        }
        let found = (last as u16, Status((last >> 17) as u16), dword(0));
        self.heads[queue] = (self.heads[queue] + 1) % ENTRIES;
        if self.heads[queue] == 0 {
            self.phases[queue] ^= 1;
        }
        Some(found)
    }

    pub(super) fn consume(&self, queue: usize) {
        self.write(DOORBELLS + 8 * queue as u64 + 4, self.heads[queue]);
    }

    pub(super) fn answer(&mut self, queue: usize) -> (u16, Status, u32) {
        let mut found = None;
        wait_for("a completion", || {
            found = self.completion(queue);
            found.is_some()
        });
        self.consume(queue);
        found.unwrap()
    }

    pub(super) fn admin(&mut self, entry: Entry) -> (Status, u32) {
        let id = self.submit(0, entry);
        let (answered, status, result) = self.answer(0);
        assert_eq!(answered, id);
        (status, result)
    }

    pub(super) fn io(&mut self, entry: Entry) -> Status {
        let id = self.submit(1, Entry { namespace: entry.namespace.max(1), ..entry });
        let (answered, status, _) = self.answer(1);
        assert_eq!(answered, id);
        status
    }

    pub(super) fn transfer(
        &mut self,
        opcode: u8,
        first: u32,
        count: u32,
        pages: (u64, u64),
    ) -> Status {
        self.io(Entry { opcode, pages, dwords: [first, 0, count - 1, 0, 0, 0], ..Entry::default() })
    }

    pub(super) fn expect_working(&mut self) {
        assert_eq!(self.transfer(nvm::READ, 9, 1, (DATA, 0)), Status::SUCCESS);
        assert_eq!(self.ram.read_obj::<u8>(DATA + 511).unwrap(), 9);
    }

    pub(super) fn identify(&mut self, what: u32, namespace: u32) -> (Status, Vec<u8>) {
        let dwords = [what, 0, 0, 0, 0, 0];
        let pages = (DATA, 0);
        let (status, _) =
            self.admin(Entry { opcode: admin::IDENTIFY, namespace, pages, dwords, flags: 0 });
        let mut page = vec![0; 4096];
        self.ram.read_slice(DATA, &mut page).unwrap();
        (status, page)
    }
}
