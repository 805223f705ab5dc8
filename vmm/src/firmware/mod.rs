//! Firmware as memory of the guest's: its image below 4 GiB, and what it prints for its developers.

mod log;
mod rom;

pub(crate) use log::FirmwareLog;
pub(crate) use rom::Rom;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use arch::layout::{FIRMWARE_MIN, HIGH_RAM_START, KIB, PAGE_SIZE};

/// All that lies below 4 GiB.
const MAX: u64 = HIGH_RAM_START - FIRMWARE_MIN;
/// Of a firmware image: as much as a reset vector in real mode reaches.
const MIN: u64 = 64 * KIB;
/// What a processor executes first.
const RESET_VECTOR: usize = 16;
const QCOW2_MAGIC: &[u8] = b"QFI\xfb";

#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    #[error("the firmware image cannot be read")]
    Read(#[source] io::Error),
    #[error(
        "the firmware image has {len} bytes: it must be a multiple of 4 KiB, from {} KiB to {} MiB",
        MIN / KIB,
        MAX / arch::layout::MIB
    )]
    Size { len: u64 },
    #[error("the firmware image is in qcow2 format: convert it to raw")]
    Qcow2,
    #[error("the firmware image has no code at its end, where the processor starts")]
    NoCode,
    #[error("memory for the firmware cannot be had")]
    Memory(#[from] memory::MemoryError),
    #[error("this host's KVM cannot give a guest memory that it only reads")]
    Map(#[source] io::Error),
}

/// The image, if it can be one.
fn read_image(file: &File) -> Result<Vec<u8>, FirmwareError> {
    let len = file.metadata().map_err(FirmwareError::Read)?.len();
    let mut start = [0; QCOW2_MAGIC.len()];
    if file.read_exact_at(&mut start, 0).is_ok() && start == QCOW2_MAGIC {
        return Err(FirmwareError::Qcow2);
    }
    if !(MIN..=MAX).contains(&len) || !len.is_multiple_of(PAGE_SIZE) {
        return Err(FirmwareError::Size { len });
    }
    let mut image = vec![0; len as usize];
    file.read_exact_at(&mut image, 0).map_err(FirmwareError::Read)?;
    let vector = &image[image.len() - RESET_VECTOR..];
    if vector.iter().all(|byte| *byte == vector[0]) {
        return Err(FirmwareError::NoCode);
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn image(bytes: &[u8]) -> Result<Vec<u8>, FirmwareError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        read_image(&file)
    }

    fn with_code(len: usize) -> Vec<u8> {
        let mut bytes = vec![0xff; len];
        bytes[len - RESET_VECTOR] = 0xea;
        bytes
    }

    #[test]
    fn sizes_that_cannot_be_mapped_are_refused() {
        for len in [0, 16, 4096, 60 << 10, (64 << 10) + 512, (16 << 20) + 4096] {
            let bytes = with_code(len.max(16));
            assert!(matches!(image(&bytes), Err(FirmwareError::Size { .. })), "{len}");
        }
        for len in [64 << 10, 256 << 10, 0x37_c000, 16 << 20] {
            assert_eq!(image(&with_code(len)).unwrap().len(), len);
        }
    }

    #[test]
    fn what_is_no_firmware_is_refused_with_the_reason() {
        assert!(matches!(image(&[0xff; 256 << 10]), Err(FirmwareError::NoCode)));
        let mut qcow2 = with_code(256 << 10);
        qcow2[..4].copy_from_slice(QCOW2_MAGIC);
        assert!(matches!(image(&qcow2), Err(FirmwareError::Qcow2)));
    }
}
