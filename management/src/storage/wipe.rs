//! A volume overwritten, as often and with what its owner's policy asks for (libvirt's names, which
//! are those of scrub(1)).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use image::{FileStorage, Storage};
use rustix::fs::FileType;
use rustix::rand::{GetRandomFlags, getrandom};

use super::VolumeView;
use super::create::{NewVolume, io_error};
use crate::error::Error;
use crate::jobs::Progress;

/// Done between two looks at whether the job is to go on. Patterns of three bytes fit in it.
const PIECE: u64 = 48 << 20;
const CHUNK: usize = 3 << 18;

/// libvirt's virStorageVolWipeAlgorithm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WipeAlgorithm {
    #[default]
    Zero,
    Nnsa,
    Dod,
    Bsi,
    Gutmann,
    Schneier,
    Pfitzner7,
    Pfitzner33,
    Random,
    /// Nothing is overwritten: the space is given back.
    Trim,
}

/// In the order of libvirt's numbers.
const NAMES: [(&str, WipeAlgorithm); 10] = [
    ("zero", WipeAlgorithm::Zero),
    ("nnsa", WipeAlgorithm::Nnsa),
    ("dod", WipeAlgorithm::Dod),
    ("bsi", WipeAlgorithm::Bsi),
    ("gutmann", WipeAlgorithm::Gutmann),
    ("schneier", WipeAlgorithm::Schneier),
    ("pfitzner7", WipeAlgorithm::Pfitzner7),
    ("pfitzner33", WipeAlgorithm::Pfitzner33),
    ("random", WipeAlgorithm::Random),
    ("trim", WipeAlgorithm::Trim),
];

/// What is written over all of a volume once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Pattern([u8; 3]),
    Random,
}

impl WipeAlgorithm {
    /// By libvirt's word for it.
    ///
    /// # Errors
    /// The words there are.
    pub fn from_name(name: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, algorithm)| *algorithm).ok_or_else(|| {
            let known = NAMES.map(|(name, _)| name).join(", ");
            format!("there is no algorithm {name:?}; there are {known}")
        })
    }

    /// By libvirt's number of it.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        NAMES.get(number as usize).map(|(_, algorithm)| *algorithm)
    }

    fn passes(self) -> Vec<Pass> {
        let of = |bytes: &[u8]| bytes.iter().map(|byte| Pass::Pattern([*byte; 3])).collect();
        let random = |times| vec![Pass::Random; times];
        match self {
            Self::Trim => Vec::new(),
            Self::Zero => of(&[0]),
            Self::Random => random(1),
            Self::Nnsa => [random(2), of(&[0])].concat(),
            Self::Dod => [random(1), of(&[0, 0xff])].concat(),
            Self::Bsi => of(&[0xff, 0xfe, 0xfd, 0xfb, 0xf7, 0xef, 0xdf, 0xbf, 0x7f]),
            Self::Schneier => [of(&[0, 0xff]), random(5)].concat(),
            Self::Pfitzner7 => random(7),
            Self::Pfitzner33 => random(33),
            Self::Gutmann => {
                let turned = |a, b, c| [[a, b, c], [b, c, a], [c, a, b]].map(Pass::Pattern);
                let steps: Vec<_> = (0..16).map(|step| step * 0x11).collect();
                let coded = [
                    of(&[0x55, 0xaa]),
                    turned(0x92, 0x49, 0x24).to_vec(),
                    of(&steps),
                    turned(0x92, 0x49, 0x24).to_vec(),
                    turned(0x6d, 0xb6, 0xdb).to_vec(),
                ];
                [random(4), coded.concat(), random(4)].concat()
            }
        }
    }
}

/// Overwrite everything that lies in a volume, and leave it empty, as large as it was.
pub(crate) fn wipe(
    volume: &VolumeView,
    file: OwnedFd,
    algorithm: WipeAlgorithm,
    progress: &Progress,
) -> Result<(), Error> {
    let failed = |error| io_error(&volume.name, error);
    let kind = rustix::fs::fstat(&file).map_err(|errno| failed(errno.into()))?.st_mode;
    let is_device = FileType::from_raw_mode(kind) == FileType::BlockDevice;
    let file = FileStorage::new(File::from(file)).map_err(failed)?;
    let size = file.size().map_err(failed)?;
    let passes = algorithm.passes();
    progress.set_total(size.saturating_mul(passes.len().max(1) as u64));
    let mut done = 0;
    for pass in passes {
        overwrite(&file, size, pass, done, progress).map_err(failed)?;
        // What the next pass overwrites in the cache alone would never have been on the disk.
        file.sync().map_err(failed)?;
        done += size;
    }
    if is_device {
        if algorithm == WipeAlgorithm::Trim {
            file.write_zeroes(0, size, true).map_err(failed)?;
            file.sync().map_err(failed)?;
        }
        return Ok(());
    }
    // Now that it is overwritten, its space may be given back.
    file.set_len(0).map_err(failed)?;
    NewVolume::like(volume, &volume.name)?.format(&file)?;
    file.sync().map_err(failed)
}

/// Where there is data; holes have kept nothing.
fn overwrite(
    file: &dyn Storage,
    size: u64,
    pass: Pass,
    done: u64,
    progress: &Progress,
) -> io::Result<()> {
    let mut chunk = match pass {
        Pass::Pattern(pattern) => pattern.repeat(CHUNK / 3),
        Pass::Random => vec![0; CHUNK],
    };
    let mut at = 0;
    while at < size {
        progress.at(done + at)?;
        let (is_data, len) = file.data_run(at, (size - at).min(PIECE))?;
        let end = at + len.max(1);
        while is_data && at < end {
            if pass == Pass::Random {
                fill(&mut chunk)?;
            }
            let part = (end - at).min(CHUNK as u64);
            file.write(&chunk[..part as usize], at)?;
            at += part;
        }
        at = end;
    }
    Ok(())
}

fn fill(chunk: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < chunk.len() {
        filled += getrandom(&mut chunk[filled..], GetRandomFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use image::MemoryStorage;

    use super::*;

    #[test]
    fn each_algorithm_has_libvirts_name_and_number_and_its_passes() {
        let lengths = [1, 3, 3, 9, 35, 7, 7, 33, 1, 0];
        for (number, ((name, algorithm), passes)) in (0..).zip(NAMES.into_iter().zip(lengths)) {
            assert_eq!(WipeAlgorithm::from_name(name), Ok(algorithm));
            assert_eq!(WipeAlgorithm::from_number(number), Some(algorithm));
            assert_eq!(algorithm.passes().len(), passes, "{name}");
        }
        assert_eq!(WipeAlgorithm::from_number(10), None);
        assert!(WipeAlgorithm::from_name("shred").unwrap_err().contains("pfitzner33"));
    }

    #[test]
    fn a_pass_leaves_nothing_of_what_was_there() {
        let size = 2 * CHUNK + 100;
        let file = MemoryStorage::default();
        file.write(&vec![7; size], 0).unwrap();
        let read = || {
            let mut data = vec![0; size];
            file.read(&mut data, 0).unwrap();
            data
        };
        let progress = Progress::default();
        overwrite(&file, size as u64, Pass::Pattern([1, 2, 3]), 0, &progress).unwrap();
        assert!(read().chunks(3).all(|three| [1, 2, 3].starts_with(three)));
        overwrite(&file, size as u64, Pass::Random, 0, &progress).unwrap();
        let random = read();
        let left = random.chunks(3).filter(|three| [1, 2, 3].starts_with(three)).count();
        assert!(left < 100, "{left}");
    }
}
