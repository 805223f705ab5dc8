//! The board around PCI: what firmware and kernels look for at fixed ports.

mod debug;
mod i8042;
mod pm;
mod port92;
mod pvpanic;
mod rtc;
mod serial;

pub use debug::{DebugPort, PostPort};
pub use i8042::I8042;
pub use pm::AcpiPm;
pub use port92::Port92;
pub use pvpanic::PvPanic;
pub use rtc::{MemorySizes, Rtc, RtcTimer};
pub use serial::Serial;
