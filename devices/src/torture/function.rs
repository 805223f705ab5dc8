//! What every tortured PCI function goes through, whatever it does: its registers and configuration space, the guest
//! memory around it, pauses, saves and resets.

use std::sync::Arc;

use memory::GuestRam;

use super::Script;
use super::board::thread;
use crate::component::Component;
use crate::io_thread::IoThread;
use crate::pci::PciFunction;

pub(super) struct Function<'a, F> {
    pub(super) device: &'a F,
    pub(super) ram: &'a GuestRam,
    /// Windows that there are, with their lengths.
    pub(super) bars: &'a [(u8, u64)],
    thread: Arc<IoThread>,
}

impl<'a, F: PciFunction + Component> Function<'a, F> {
    pub(super) fn new(device: &'a F, ram: &'a GuestRam, bars: &'a [(u8, u64)]) -> Self {
        Self { device, ram, bars, thread: thread() }
    }

    /// Wait until the io thread has seen what was there to see.
    ///
    /// # Panics
    /// When a device ended it.
    pub(super) fn settle(&self) {
        // The first call may be answered before what came at the same time.
        for _ in 0..2 {
            self.thread.call(|| ()).expect("no guest ends the io thread");
        }
    }

    /// One step that fits all functions:
    /// ```text
    /// 0: u16 place / 4, u8 length, bytes of memory   1: u8 window, u16 offset, u8 width, 8 bytes written
    /// 2: u8 window, u16 offset, u8 width read        3: u8 offset, 4 bytes of configuration space
    /// 4: settle   5: paused, saved, restored         6: reset
    /// ```
    pub(super) fn step(&self, what: u8, script: &mut Script<'_>) {
        match what {
            0 => {
                let at = u64::from(script.short()) * 4;
                let length = script.byte().into();
                // Where it does not fit there is no memory.
                let _ = self.ram.write_slice(at, script.take(length));
            }
            1 => {
                let Some((bar, offset)) = self.place(script) else { return };
                let width = 1 << (script.byte() % 4);
                let mut data = [0; 8];
                script.fill(&mut data);
                let _ = self.device.bar_write(bar, offset, &data[..width]);
            }
            2 => {
                let Some((bar, offset)) = self.place(script) else { return };
                let width = 1 << (script.byte() % 4);
                self.device.bar_read(bar, offset, &mut [0; 8][..width]);
            }
            3 => {
                let offset = u16::from(script.byte()) & !3;
                let mut data = [0; 4];
                script.fill(&mut data);
                let _ = self.device.config_write(offset, &data);
                self.device.config_read(offset, &mut data);
            }
            4 => self.settle(),
            5 => self.save_and_restore(),
            _ => self.device.reset(),
        }
    }

    fn place(&self, script: &mut Script<'_>) -> Option<(u8, u64)> {
        let number = usize::from(script.byte());
        let offset = u64::from(script.short());
        let (bar, length) = *self.bars.get(number % self.bars.len().max(1))?;
        Some((bar, offset % length))
    }

    fn save_and_restore(&self) {
        self.device.pause();
        let saved = self.device.save().expect("a paused device can be saved");
        self.device.restore(&saved).expect("what was saved restores");
        assert!(self.device.save().is_ok_and(|again| again == saved), "it comes back as it was");
        self.device.resume();
        self.settle();
    }

    /// The end of an input: nothing is in flight, nothing is lost.
    pub(super) fn end(&self) {
        self.settle();
        self.save_and_restore();
        self.device.reset();
        self.settle();
    }
}
