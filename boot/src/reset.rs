//! What a kernel finds where a PC's firmware would start, should it go there in real mode: the reset.
//!
//! Linux restarts a machine with hardware-reduced ACPI by EFI, and where there is none it jumps to
//! FFFF:0000, without trying any register before (6.1, `reboot_init` and `machine_real_restart`).

use arch::ports;

/// `mov al, PULSE_RESET; out I8042_COMMAND, al; hlt; jmp` back to the `hlt`.
pub(crate) const CODE: [u8; 7] =
    [0xb0, ports::I8042_PULSE_RESET, 0xe6, ports::I8042_COMMAND as u8, 0xf4, 0xeb, 0xfd];
