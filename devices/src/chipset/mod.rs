//! The board around PCI: what firmware and kernels look for at fixed ports.

mod debug;
mod events;
mod fw_cfg;
mod generation;
mod i8042;
mod pflash;
mod pm;
mod port92;
mod processors;
mod pvpanic;
pub(crate) mod reset_port;
mod rtc;
mod serial;

pub use debug::{DebugPort, PostPort};
pub use events::EventDevice;
pub use fw_cfg::{FwCfg, FwCfgError, Items, Late, Writable, key as fw_cfg_key};
pub use generation::{Generation, GenerationEvent};
pub use i8042::I8042;
pub use pflash::{Pflash, PflashError};
pub use pm::AcpiPm;
pub use port92::Port92;
pub use processors::{ProcessorEvent, Processors};
pub use pvpanic::PvPanic;
pub use reset_port::ResetPort;
pub use rtc::{MemorySizes, Rtc, Told};
pub use serial::Serial;

/// The button by which a guest is asked to shut down.
pub trait PowerButton: Send + Sync {
    fn press(&self);
}
