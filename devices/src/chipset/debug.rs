//! Ports that firmware talks to for its developers: the debug console 0x402 and the POST code 0x80.

use std::sync::Arc;

use crate::backend::chardev::ConsoleBackend;
use crate::bus::{BusDevice, Effect};

/// Bochs' debug console. SeaBIOS and OVMF write their log to it if it reads as [`Self::PRESENT`].
pub struct DebugPort {
    backend: Arc<dyn ConsoleBackend>,
}

impl DebugPort {
    pub const BASE: u64 = 0x402;
    pub const LEN: u64 = 1;
    const PRESENT: u8 = 0xe9;

    #[must_use]
    pub fn new(backend: Arc<dyn ConsoleBackend>) -> Self {
        Self { backend }
    }
}

impl BusDevice for DebugPort {
    fn name(&self) -> &str {
        "debug-port"
    }

    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(Self::PRESENT);
    }

    fn write(&self, _offset: u64, data: &[u8]) -> Effect {
        self.backend.output(data);
        Effect::None
    }
}

/// The POST code port. Kernels write to it for a delay, so it is no unhandled access.
pub struct PostPort;

impl PostPort {
    pub const BASE: u64 = 0x80;
    pub const LEN: u64 = 1;
}

impl BusDevice for PostPort {
    fn name(&self) -> &str {
        "post-port"
    }

    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> Effect {
        Effect::None
    }
}
