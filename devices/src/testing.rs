//! What devices are connected to in tests: a clock that is set by hand, a line that remembers.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use memory::GuestRam;

use crate::backend::chardev::{ConsoleBackend, InputListener};
use crate::clock::Clock;
use crate::device_memory::{GuestAccess, MemoryMapper, MemoryWindow};
use crate::irq::IrqLine;
use crate::sync::Lock;

/// Both clocks advance together; real time starts at the epoch.
#[derive(Default)]
pub(crate) struct FakeClock(Mutex<Duration>);

impl FakeClock {
    pub(crate) fn advance(&self, by: Duration) {
        *self.0.hold() += by;
    }
}

impl Clock for FakeClock {
    fn monotonic(&self) -> Duration {
        *self.0.hold()
    }

    fn real(&self) -> Duration {
        *self.0.hold()
    }
}

#[derive(Default)]
pub(crate) struct FakeLine {
    high: AtomicBool,
    edges: AtomicU32,
}

impl FakeLine {
    pub(crate) fn is_high(&self) -> bool {
        self.high.load(Ordering::SeqCst)
    }

    /// How often it went from low to high.
    pub(crate) fn edges(&self) -> u32 {
        self.edges.load(Ordering::SeqCst)
    }
}

impl IrqLine for FakeLine {
    fn set(&self, high: bool) {
        if high && !self.high.swap(high, Ordering::SeqCst) {
            self.edges.fetch_add(1, Ordering::SeqCst);
        }
        self.high.store(high, Ordering::SeqCst);
    }
}

/// A console that collects output and gives out what a test types in.
#[derive(Default)]
pub(crate) struct FakeConsole {
    output: Mutex<Vec<u8>>,
    input: Mutex<VecDeque<u8>>,
    listener: Mutex<Option<Weak<dyn InputListener>>>,
}

impl FakeConsole {
    pub(crate) fn output(&self) -> Vec<u8> {
        self.output.hold().clone()
    }

    pub(crate) fn type_in(&self, data: &[u8]) {
        self.input.hold().extend(data);
        let listener = self.listener.hold().clone();
        if let Some(listener) = listener.and_then(|listener| listener.upgrade()) {
            listener.input_available();
        }
    }
}

impl ConsoleBackend for FakeConsole {
    fn output(&self, data: &[u8]) {
        self.output.hold().extend_from_slice(data);
    }

    fn input(&self, data: &mut [u8]) -> usize {
        let mut input = self.input.hold();
        let count = data.len().min(input.len());
        for (slot, byte) in data.iter_mut().zip(input.drain(..count)) {
            *slot = byte;
        }
        count
    }

    fn listen(&self, listener: Weak<dyn InputListener>) {
        *self.listener.hold() = Some(listener);
    }
}

/// Remembers where each window is.
#[derive(Default)]
pub(crate) struct FakeMapper(Mutex<Vec<Arc<FakeWindow>>>);

#[derive(Default)]
pub(crate) struct FakeWindow(Mutex<Option<u64>>);

impl FakeMapper {
    pub(crate) fn places(&self) -> Vec<Option<u64>> {
        self.0.hold().iter().map(|window| *window.0.hold()).collect()
    }
}

impl MemoryMapper for FakeMapper {
    fn window(&self, _: &GuestRam, _: GuestAccess) -> io::Result<Arc<dyn MemoryWindow>> {
        let window = Arc::new(FakeWindow::default());
        self.0.hold().push(window.clone());
        Ok(window)
    }
}

impl MemoryWindow for FakeWindow {
    fn place(&self, base: Option<u64>) -> io::Result<()> {
        *self.0.hold() = base;
        Ok(())
    }
}
