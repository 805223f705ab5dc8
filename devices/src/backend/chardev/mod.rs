//! Character devices: the host side of a serial port, console or channel.
//!
//! ```text
//!  device ── output ──→ history ring ──→ every reader at its own position (pty, log, stream, stdio)
//!  device ←── input ─── bounded queue ←── every writer (pty, stream, stdio)
//! ```
//! The device side never waits: it appends to the ring and goes on. A reader that falls behind the
//! ring loses the oldest bytes, which are counted. Writers are read only while the queue has room.
//!
//! What two programs say to each other is worth nothing with a part missing, so a channel differs: it
//! has room only for what its slowest client can still miss, and the guest's program waits for that.

use std::sync::Weak;

mod device;
mod log;
mod ring;
#[cfg(test)]
mod tests;
mod worker;

pub use device::{Chardev, ClientId};
pub use worker::ChardevWorker;

/// What a device model needs of its host side.
pub trait ConsoleBackend: Send + Sync {
    /// Bytes from the guest. Never waits.
    fn output(&self, data: &[u8]);

    /// How many of `wanted` bytes of output there is room for before somebody would miss some. When
    /// it is fewer, [`InputListener::output_possible`] tells of more.
    fn output_room(&self, wanted: usize) -> usize {
        wanted
    }

    /// Take waiting bytes for the guest; how many comes back.
    fn input(&self, data: &mut [u8]) -> usize;

    /// Who is to be told about input. The latest caller counts.
    fn listen(&self, listener: Weak<dyn InputListener>);

    /// Whether somebody is there on the host's side.
    fn is_connected(&self) -> bool {
        true
    }

    /// The guest opened or closed its side (virtio ports; a serial port cannot tell).
    fn guest_opened(&self, _open: bool) {}
}

/// The device side of a backend. Called on an io thread, no lock held.
pub trait InputListener: Send + Sync {
    /// There is input that was not there when [`ConsoleBackend::input`] last came back short.
    fn input_available(&self);

    /// There is room for output that there was not.
    fn output_possible(&self) {}

    /// Somebody came to the host's side, or the last one left.
    fn connection_changed(&self, _connected: bool) {}
}
