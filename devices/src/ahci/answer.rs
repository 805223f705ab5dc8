//! [`End`]: how a command ends, and what the port's registers and the driver's memory say of it
//! then (AHCI 1.3.1 §5.3 and §6.2, SATA's FIS types).

use memory::GuestRam;

use super::command::Broken;
use super::hba::Port;
use super::spec::{self, FIS_INTERRUPT, interrupt};
use crate::ata::TaskFile;
use crate::ata::spec::status;

/// How a command ends, for the registers.
pub(super) enum End {
    /// The registers that the device sends.
    Registers {
        status: u8,
        error: u8,
        task: TaskFile,
    },
    Pio {
        bytes: u64,
        task: TaskFile,
    },
    Queued {
        status: u8,
        error: u8,
    },
    /// Nothing is sent: the structures are broken.
    Fatal(u32),
    /// The control register was written.
    Control {
        reset: bool,
    },
}

pub(super) fn apply(port: &mut Port, slot: u32, end: End, ram: &GuestRam) {
    let bit = 1 << slot;
    match end {
        End::Registers { status, error, task } => {
            port.task_file = u32::from(error) << 8 | u32::from(status);
            port.receive(ram, spec::RECEIVED_D2H, &registers(status, error, &task, true));
            port.interrupts |= interrupt::D2H_REGISTER;
            halt_if(port, status);
            if !port.halted {
                port.issued &= !bit;
            }
        }
        End::Pio { bytes, task } => {
            port.task_file = status::READY.into();
            let mut fis = registers(status::READY | status::DRQ, 0, &task, true);
            fis[0] = spec::FIS_PIO_SETUP;
            // From the device.
            fis[1] |= 0x20;
            fis[15] = status::READY;
            fis[16..18].copy_from_slice(&(bytes.min(0xffff) as u16).to_le_bytes());
            port.receive(ram, spec::RECEIVED_PIO_SETUP, &fis);
            port.interrupts |= interrupt::PIO_SETUP;
            port.issued &= !bit;
        }
        End::Queued { status, error } => {
            let good = status & status::ERR == 0;
            let done = if good { bit } else { 0 };
            port.active &= !done;
            // A command that the device refused was not accepted before.
            port.issued &= !bit;
            let busy = port.task_file & u32::from(status::BSY | status::DRQ);
            port.task_file = u32::from(error) << 8 | busy | u32::from(status & 0x77);
            let [d0, d1, d2, d3] = u32::to_le_bytes(done);
            let fis = [spec::FIS_DEVICE_BITS, FIS_INTERRUPT, status & 0x77, error, d0, d1, d2, d3];
            port.receive(ram, spec::RECEIVED_DEVICE_BITS, &fis);
            port.interrupts |= interrupt::DEVICE_BITS;
            halt_if(port, status);
        }
        End::Fatal(cause) => {
            port.interrupts |= cause;
            port.halted = true;
        }
        End::Control { reset } => {
            port.issued &= !bit;
            if port.soft_reset && !reset {
                port.device_reset(ram);
            }
            port.soft_reset = reset;
        }
    }
}

/// An error stops the port until the driver restarts it (AHCI 1.3.1 §6.2).
fn halt_if(port: &mut Port, status: u8) {
    if status & status::ERR != 0 {
        port.interrupts |= interrupt::TASK_FILE;
        port.halted = true;
    }
}

/// A FIS from the device with its registers.
pub(super) fn registers(status: u8, error: u8, task: &TaskFile, interrupts: bool) -> [u8; 20] {
    let [l0, l1, l2, l3, l4, l5, _, _] = task.lba.to_le_bytes();
    let [c0, c1] = task.count.to_le_bytes();
    let flags = if interrupts { FIS_INTERRUPT } else { 0 };
    [
        spec::FIS_D2H,
        flags,
        status,
        error,
        l0,
        l1,
        l2,
        task.device,
        l3,
        l4,
        l5,
        0,
        c0,
        c1,
        0,
        0,
        0,
        0,
        0,
        0,
    ]
}

pub(super) fn fatal(broken: Broken) -> u32 {
    match broken {
        Broken::Structure => interrupt::HOST_FATAL,
        Broken::Data => interrupt::HOST_DATA,
        Broken::Short => interrupt::OVERFLOW,
    }
}
