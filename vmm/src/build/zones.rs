//! Which port writes may wait in KVM's ring until the guest leaves for something else.
//!
//! A register qualifies when writing it does nothing but select what the next access, to another
//! port, is about: half of the exits of a kernel's probing are such writes.

use arch::ports;
use boot::acpi::ResetRegister;
use vmm_protocol::config::Boot;

use crate::kvm::Zone;

/// The index of the CMOS register. The data port behind it is not part of the zone.
const RTC_INDEX: Zone = Zone { port: ports::RTC, len: 1 };
/// The address of configuration mechanism #1.
const PCI_ADDRESS: Zone = Zone { port: ports::PCI_CONFIG_ADDRESS, len: 4 };

pub(super) struct Waiting {
    pub(super) zones: &'static [Zone],
    /// The register that the ACPI tables name: one that does not wait.
    pub(super) reset: ResetRegister,
}

/// KVM keeps every write that fits in a zone, so that of the PCI address includes the reset control
/// register, byte 0xCF9: a reset by it would wait for the guest's next exit. The kernels that are
/// booted directly go on to the i8042 and then to a triple fault, which are exits, and they prefer
/// the register of the ACPI tables, which is the i8042 for them. Firmware (EDK2) writes 0xCF9 and
/// spins for ever: a machine that boots by one must keep that zone out, and 0xCF9 in its tables.
pub(super) fn waiting(boot: &Boot) -> Waiting {
    match boot {
        Boot::Kernel { .. } => {
            Waiting { zones: &[RTC_INDEX, PCI_ADDRESS], reset: ResetRegister::KeyboardController }
        }
        Boot::Firmware(_) => Waiting { zones: &[RTC_INDEX], reset: ResetRegister::ResetControl },
    }
}

#[cfg(test)]
mod tests {
    use vmm_protocol::config::{Fd, Firmware};

    use super::*;

    #[test]
    fn the_reset_register_of_the_tables_does_not_wait() {
        let kernel = Boot::Kernel { kernel: Fd(4), initrd: None, cmdline: String::new() };
        let image = Fd(4);
        let firmware =
            Boot::Firmware(Firmware { image, variables: None, menu: None, serial_text: false });
        for boot in [kernel, firmware] {
            let Waiting { zones, reset } = waiting(&boot);
            let port = match reset {
                ResetRegister::ResetControl => ports::RESET_CONTROL,
                ResetRegister::KeyboardController => ports::I8042_COMMAND,
            };
            assert!(zones.iter().all(|zone| !(zone.port..zone.port + zone.len).contains(&port)));
        }
    }
}
