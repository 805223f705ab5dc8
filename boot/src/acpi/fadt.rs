//! FADT: where the fixed hardware is, and what legacy hardware is not there.

use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use arch::{gsi, ports};

use super::{Board, OEM_ID, OEM_REVISION, OEM_TABLE_ID, ResetRegister};

/// FIRMWARE_CTRL, DSDT and X_DSDT: (offset, size).
pub(super) const POINTERS: &[(usize, u8)] = &[(36, 4), (40, 4), (140, 8)];

/// CMOS byte of the century.
const RTC_CENTURY: u8 = 0x32;
/// Latencies above these limits mean "no C2", "no C3".
const NO_C2: u16 = 101;
const NO_C3: u16 = 1001;

// IAPC_BOOT_ARCH
const LEGACY_DEVICES: u16 = 1 << 0;
const I8042: u16 = 1 << 1;
const NO_VGA: u16 = 1 << 2;
const NO_ASPM: u16 = 1 << 4;
const NO_RTC: u16 = 1 << 5;

pub(super) fn table(board: &Board, facs: u64, dsdt: u64) -> FADT {
    // WBINVD works, C1 is there, no fixed sleep button, the RTC cannot wake.
    // Not set: TMR_VAL_EXT (the PM timer has 24 bits), USE_PLATFORM_CLOCK (kvmclock is better).
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::ResetRegSup);
    fadt.firmware_ctrl = (facs as u32).into();
    fadt.dsdt = (dsdt as u32).into();
    fadt.x_dsdt = dsdt.into();
    if board.reduced {
        // PWR_BUTTON: there is no fixed one.
        fadt = fadt.flag(Flags::HwReducedAcpi).flag(Flags::PwrButton);
        fadt.sleep_control_reg = register(ports::SLEEP_CONTROL, 1, AccessSize::ByteAccess);
        fadt.sleep_status_reg = register(ports::SLEEP_STATUS, 1, AccessSize::ByteAccess);
    } else {
        fixed_hardware(board, &mut fadt);
    }
    let (reset, value) = match board.reset {
        ResetRegister::ResetControl => (ports::RESET_CONTROL, ports::RESET_VALUE),
        ResetRegister::KeyboardController => (ports::I8042_COMMAND, ports::I8042_PULSE_RESET),
    };
    fadt.reset_reg = register(reset, 1, AccessSize::ByteAccess);
    fadt.reset_value = value;

    fadt.p_lvl2_lat = NO_C2.into();
    fadt.p_lvl3_lat = NO_C3.into();
    let mut legacy = NO_ASPM;
    if !board.vga {
        legacy |= NO_VGA;
    }
    if board.serial.contains(&true) {
        legacy |= LEGACY_DEVICES;
    }
    if board.ps2 {
        legacy |= I8042;
    }
    if board.rtc {
        fadt.century = RTC_CENTURY;
    } else {
        legacy |= NO_RTC;
    }
    fadt.iapc_boot_arch = legacy.into();
    fadt.hypervisor_vendor_identity = u64::from_le_bytes(*b"Manor\0\0\0").into();
    fadt.finalize()
}

/// The power management block. Its power button is the fixed one, in PM1.
fn fixed_hardware(board: &Board, fadt: &mut FADTBuilder) {
    fadt.sci_int = (gsi::SCI as u16).into();
    // SMI_CMD is 0: there is no legacy mode to leave, and SCI_EN is always set.

    let port = |port: u16| u32::from(port).into();
    fadt.pm1a_evt_blk = port(ports::PM1_EVENT);
    fadt.pm1_evt_len = ports::PM1_EVENT_LEN;
    fadt.x_pm1a_evt_blk = register(ports::PM1_EVENT, ports::PM1_EVENT_LEN, AccessSize::WordAccess);
    fadt.pm1a_cnt_blk = port(ports::PM1_CONTROL);
    fadt.pm1_cnt_len = ports::PM1_CONTROL_LEN;
    fadt.x_pm1a_cnt_blk =
        register(ports::PM1_CONTROL, ports::PM1_CONTROL_LEN, AccessSize::WordAccess);
    fadt.pm_tmr_blk = port(ports::PM_TIMER);
    fadt.pm_tmr_len = ports::PM_TIMER_LEN;
    fadt.x_pm_tmr_blk = register(ports::PM_TIMER, ports::PM_TIMER_LEN, AccessSize::DwordAccess);
    if board.slots != 0 || board.generation || board.hotplug.is_some() {
        fadt.gpe0_blk = port(ports::GPE0);
        fadt.gpe0_blk_len = ports::GPE0_LEN;
        fadt.x_gpe0_blk = register(ports::GPE0, ports::GPE0_LEN, AccessSize::ByteAccess);
    }
}

fn register(port: u16, len: u8, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, len * 8, 0, access, u64::from(port))
}
