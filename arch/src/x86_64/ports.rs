//! The I/O port map.

/// Master and slave 8259A, the PIT and port 0x61 live in the kernel.
pub const PIT: u16 = 0x40;
pub const PIT_LEN: u16 = 4;
pub const SYSTEM_CONTROL_B: u16 = 0x61;
/// i8042 data port, and the command port that can pull the reset line.
pub const I8042_DATA: u16 = 0x60;
pub const I8042_COMMAND: u16 = 0x64;
/// Written to [`I8042_COMMAND`]: pulse the reset line.
pub const I8042_PULSE_RESET: u8 = 0xfe;
/// CMOS index and data.
pub const RTC: u16 = 0x70;
pub const RTC_LEN: u16 = 2;
/// POST codes; Linux also writes here to wait, unless KVM tells it not to.
pub const POST: u16 = 0x80;
/// Fast A20 and reset.
pub const SYSTEM_CONTROL_A: u16 = 0x92;
/// SMI command and status. There is no SMM: reads are zeros, which firmware takes as "done".
pub const APM: u16 = 0xb2;
pub const APM_LEN: u16 = 2;
/// Bochs debug console of the firmwares.
pub const DEBUG_CONSOLE: u16 = 0x402;
pub const FW_CFG: u16 = 0x510;
pub const FW_CFG_LEN: u16 = 12;
/// pvpanic, when the definition has it.
pub const PVPANIC: u16 = 0x505;

pub const COM: [u16; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];
pub const COM_LEN: u16 = 8;
pub const COM_IRQ: [u32; 4] =
    [super::gsi::COM1_COM3, super::gsi::COM2_COM4, super::gsi::COM1_COM3, super::gsi::COM2_COM4];

/// Power management block of ACPI full hardware, all of it.
pub const PM_BASE: u16 = 0x600;
pub const PM_LEN: u16 = 0x80;
/// PM1a status (u16) and enable (u16).
pub const PM1_EVENT: u16 = PM_BASE;
pub const PM1_EVENT_LEN: u8 = 4;
pub const PM1_CONTROL: u16 = PM_BASE + 4;
pub const PM1_CONTROL_LEN: u8 = 2;
/// 24-bit counter at 3.579545 MHz, 32 bits wide on the bus.
pub const PM_TIMER: u16 = PM_BASE + 8;
pub const PM_TIMER_LEN: u8 = 4;
/// General purpose events: two status bytes, then two enable bytes.
pub const GPE0: u16 = PM_BASE + 0x20;
pub const GPE0_LEN: u8 = 4;
/// Slots of the PCI root bus that devices come into and leave.
pub const PCI_SLOTS: u16 = 0xae00;
pub const PCI_SLOTS_LEN: u8 = 12;
/// vCPUs that come and go: where OVMF looks for them on an ICH9, and where nothing else is on the others.
pub const PROCESSORS: u16 = 0xcd8;
pub const PROCESSORS_LEN: u8 = 12;
/// ICH9 SMI_EN. Firmware reads bit 5 set as "SMM has been dealt with".
pub const SMI_EN: u16 = PM_BASE + 0x30;

/// Of a board with hardware-reduced ACPI, in the place of that block: pending events, sleep control,
/// sleep status, a byte each.
pub const EVENTS: u16 = PM_BASE;
pub const SLEEP_CONTROL: u16 = EVENTS + 1;
pub const SLEEP_STATUS: u16 = EVENTS + 2;
pub const EVENTS_LEN: u16 = 3;

/// Value of SLP_TYP that `\_S5` names: soft off.
pub const SLEEP_TYPE_S5: u8 = 5;

/// Type 1 configuration address and data; byte 0xcf9 between them is the reset control.
pub const PCI_CONFIG_ADDRESS: u16 = 0xcf8;
pub const PCI_CONFIG_DATA: u16 = 0xcfc;
pub const RESET_CONTROL: u16 = 0xcf9;
/// Written to [`RESET_CONTROL`]: system reset (bit 1) on the rising edge of bit 2.
pub const RESET_VALUE: u8 = 6;

/// PCI I/O window of the host bridge, above everything on the board.
pub const PCI_IO_START: u16 = 0x1000;
pub const PCI_IO_END: u16 = 0xffff;
