//! What firmware talks to before anything else: fw_cfg, and the flash with its variables.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use memory::{Backing, GuestRam};

use super::Script;
use crate::bus::BusDevice as _;
use crate::chipset::{FwCfg, Items, Late, Pflash};
use crate::component::Component as _;
use crate::device_memory::{GuestAccess, MemoryMapper, MemoryWindow};
use crate::display::{Ramfb, Scanout as _, Surface};

/// Two regions with a hole between them.
const LAYOUT: [(u64, u64); 2] = [(0, 0x4000), (0x8000, 0x4000)];
const FLASH: usize = 4 << 12;
const FLASH_END: u64 = 0xffc8_4000;

/// ```text
/// steps: u8 what   0: u16 selector   1: u8 data   2: u32 address, 16 bytes of request
///        3: saved and restored   4: what ramfb shows   others: what % 12 as the offset of a write of 4 bytes
/// ```
pub fn fw_cfg(data: &[u8]) {
    let Some(ram) = ram() else { return };
    let late = Late { files: vec![("late".to_owned(), 40)], make: Box::new(|| vec![vec![3; 50]]) };
    let files = vec![("opt/a".to_owned(), vec![1; 300]), ("opt/b".to_owned(), Vec::new())];
    let ramfb = Ramfb::new("video0", ram.clone());
    let Ok(items) =
        Items::new(Vec::new(), files, Some(late), vec![(Ramfb::FILE.to_owned(), ramfb.clone())])
    else {
        return;
    };
    let device = FwCfg::new(items, ram.clone());
    let (mut surface, mut frames) = (Surface::new(), 0);
    let mut script = Script(data);
    while !script.is_over() {
        match script.byte() {
            0 => drop(device.write(0, script.take(2))),
            1 => device.read(1, &mut [0]),
            2 => {
                let address = script.number();
                // Where it does not fit nothing is written, and the request is whatever is there.
                let _ = ram.write_slice(address.into(), script.take(16));
                let _ = device.write(4, &[0; 4]);
                let _ = device.write(8, &address.to_be_bytes());
            }
            3 => {
                let saved = device.save().expect("a device that works can be saved");
                device.restore(&saved).expect("what was saved restores");
            }
            4 if frames < 16 => {
                frames += 1;
                ramfb.draw(&mut surface, true);
            }
            what => drop(device.write(u64::from(what % 12), script.take(4))),
        }
    }
    device.reset();
}

/// ```text
/// u8 erased or not   steps: u16 offset, u8 length % 9 (0: save and restore, 8: reads), bytes
/// ```
/// However it is programmed: what the guest reads is what is in the file.
pub fn flash(data: &[u8]) {
    let mut script = Script(data);
    let fill = script.byte();
    let Ok(file) = file(fill) else { return };
    let Ok(copy) = file.try_clone() else { return };
    let Ok(flash) = Pflash::new(copy, FLASH_END, &Unmapped) else { return };
    while !script.is_over() {
        let offset = u64::from(script.number() >> 16) % FLASH as u64;
        match script.byte() % 9 {
            0 => {
                let saved = flash.save().expect("a flash that works can be saved");
                flash.restore(&saved).expect("what was saved restores");
            }
            8 => flash.read(offset, &mut [0; 8]),
            length => drop(flash.write(offset, script.take(length.into()))),
        }
    }
    // Back to the array, past a count and as much data as can still be due, which it is then.
    for _ in 0..600 {
        let _ = flash.write(0, &[0xff]);
    }
    let mut stored = vec![0; FLASH];
    file.read_exact_at(&mut stored, 0).expect("the file is as long as it was");
    for (at, stored) in (0..).zip(stored.chunks_exact(8)) {
        let mut read = [0; 8];
        flash.read(at * 8, &mut read);
        assert_eq!(read, stored, "at {:#x}", at * 8);
    }
}

fn ram() -> Option<GuestRam> {
    GuestRam::new(&LAYOUT, &Backing::Anonymous).ok()
}

fn file(fill: u8) -> io::Result<File> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("flash", flags)?);
    file.write_all(&[fill; FLASH])?;
    Ok(file)
}

/// Every access is an exit.
pub(super) struct Unmapped;

impl MemoryMapper for Unmapped {
    fn window(
        &self,
        _memory: &GuestRam,
        _access: GuestAccess,
    ) -> io::Result<Arc<dyn MemoryWindow>> {
        Ok(Arc::new(Self))
    }
}

impl MemoryWindow for Unmapped {
    fn place(&self, _base: Option<u64>) -> io::Result<()> {
        Ok(())
    }
}
