//! ELF64 kernels (`vmlinux`, unikernels, test guests): entered by PVH where a Xen note offers it,
//! else at the ELF entry point in long mode with `boot_params`.

use std::fs::File;
use std::ops::Range;

use arch::layout::HIMEM_START;
use linux_loader::elf::{Elf64_Ehdr, Elf64_Phdr, PT_LOAD, PT_NOTE};
use linux_loader::loader::bootparam::{LOADED_HIGH, setup_header};
use memory::{GuestRam, ReadFileError};
use vm_memory::ByteValued;

use super::{KernelError, Protocol, header_bytes, read_exact};

const CLASS_64: u8 = 2;
const DATA_LITTLE_ENDIAN: u8 = 1;
const TYPE_EXECUTABLE: u16 = 2;
const MACHINE_X86_64: u16 = 62;
/// Linux has five program headers. A file with more than this is not a kernel.
const PROGRAM_HEADERS_MAX: u16 = 128;
/// Linux's notes take about 500 bytes.
const NOTES_MAX: u64 = 64 << 10;
/// `XEN_ELFNOTE_PHYS32_ENTRY`: physical address of the PVH entry point.
const NOTE_PHYS32_ENTRY: u32 = 18;

#[derive(Debug, Clone, Copy)]
struct Segment {
    /// Guest-physical start.
    start: u64,
    file_offset: u64,
    file_len: u64,
    len: u64,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.len // checked when the segment was read
    }
}

#[derive(Debug)]
pub(crate) struct ElfImage {
    /// Ascending and disjoint, never empty.
    segments: Vec<Segment>,
    pub(crate) protocol: Protocol,
}

impl ElfImage {
    pub(crate) fn open(file: &File, len: u64) -> Result<Self, KernelError> {
        let mut header = Elf64_Ehdr::default();
        read_exact(file, len, 0, header.as_mut_slice())?;
        check_header(&header)?;

        let mut segments = Vec::new();
        let mut pvh = None;
        for index in 0..u64::from(header.e_phnum) {
            let offset = header
                .e_phoff
                .checked_add(index * size_of::<Elf64_Phdr>() as u64)
                .ok_or(KernelError::Damaged { what: "its program headers are beyond any file" })?;
            let mut program = Elf64_Phdr::default();
            read_exact(file, len, offset, program.as_mut_slice())?;
            match program.p_type {
                PT_LOAD if program.p_memsz > 0 => segments.push(segment(&program, len)?),
                PT_NOTE => pvh = pvh.or(pvh_entry(&notes(file, len, &program)?)?),
                _ => {}
            }
        }
        segments.sort_by_key(|segment| segment.start);
        if segments.is_empty() {
            return Err(KernelError::WrongElf { what: "it has nothing to load" });
        }
        if let Some(pair) = segments.windows(2).find(|pair| pair[0].end() > pair[1].start) {
            return Err(KernelError::Overlap { at: pair[1].start });
        }
        let entry = pvh.map_or(header.e_entry, u64::from);
        if !segments.iter().any(|segment| (segment.start..segment.end()).contains(&entry)) {
            return Err(KernelError::EntryOutside { entry });
        }
        let protocol = pvh.map_or(Protocol::Linux64 { rip: entry }, |eip| Protocol::Pvh { eip });
        Ok(Self { segments, protocol })
    }

    pub(crate) fn span(&self, low_ram_end: u64) -> Result<Range<u64>, KernelError> {
        let outside = self.segments.iter().find(|segment| segment.end() > low_ram_end);
        if let Some(&Segment { start, len, .. }) = outside {
            return Err(KernelError::OutsideMemory { start, len, low_ram_end });
        }
        let start = self.segments.first().map_or(0, |segment| segment.start);
        let end = self.segments.last().map_or(0, Segment::end);
        Ok(start..end)
    }

    pub(crate) fn load(&self, ram: &GuestRam, file: &File) -> Result<(), ReadFileError> {
        // What a segment has beyond its part of the file is zeros, as RAM is.
        for segment in self.segments.iter().filter(|segment| segment.file_len > 0) {
            ram.read_from_file(segment.start, segment.file_len, file, segment.file_offset)?;
        }
        Ok(())
    }
}

/// What `boot_params` needs of a setup header when the kernel brings none.
pub(super) fn setup_header() -> Vec<u8> {
    let header = setup_header {
        boot_flag: 0xaa55,
        header: u32::from_le_bytes(*b"HdrS"),
        version: 0x020c,
        type_of_loader: 0xff,
        loadflags: LOADED_HIGH,
        kernel_alignment: 0x100_0000,
        ..Default::default()
    };
    header_bytes(&header).to_vec()
}

fn check_header(header: &Elf64_Ehdr) -> Result<(), KernelError> {
    let wrong = |what| Err(KernelError::WrongElf { what });
    if header.e_ident[4] != CLASS_64 {
        return wrong("it is a 32-bit file");
    }
    if header.e_ident[5] != DATA_LITTLE_ENDIAN {
        return wrong("it is big-endian");
    }
    if header.e_machine != MACHINE_X86_64 {
        return wrong("it is for another CPU");
    }
    if header.e_type != TYPE_EXECUTABLE {
        return wrong("it is a relocatable file or a shared object");
    }
    if usize::from(header.e_phentsize) != size_of::<Elf64_Phdr>() {
        return Err(KernelError::Damaged { what: "its program headers have an unknown size" });
    }
    if header.e_phnum > PROGRAM_HEADERS_MAX {
        return Err(KernelError::Damaged { what: "it has too many program headers" });
    }
    Ok(())
}

fn segment(program: &Elf64_Phdr, file_len: u64) -> Result<Segment, KernelError> {
    let &Elf64_Phdr { p_offset, p_paddr, p_filesz, p_memsz, .. } = program;
    if p_filesz > p_memsz {
        return Err(KernelError::Damaged {
            what: "a segment is larger in the file than in memory",
        });
    }
    let promised = p_offset
        .checked_add(p_filesz)
        .ok_or(KernelError::Damaged { what: "a segment is beyond any file" })?;
    if promised > file_len {
        return Err(KernelError::Truncated { promised, len: file_len });
    }
    if p_paddr < HIMEM_START {
        return Err(KernelError::LowSegment { start: p_paddr, len: p_memsz });
    }
    if p_paddr.checked_add(p_memsz).is_none() {
        return Err(KernelError::Damaged { what: "a segment is beyond any memory" });
    }
    Ok(Segment { start: p_paddr, file_offset: p_offset, file_len: p_filesz, len: p_memsz })
}

fn notes(file: &File, len: u64, program: &Elf64_Phdr) -> Result<Vec<u8>, KernelError> {
    if program.p_filesz > NOTES_MAX {
        return Err(KernelError::Damaged { what: "its notes are too large" });
    }
    let mut notes = vec![0; program.p_filesz as usize];
    read_exact(file, len, program.p_offset, &mut notes)?;
    Ok(notes)
}

/// The PVH entry among `notes`: `{namesz, descsz, type}`, name, description, each padded to 4.
fn pvh_entry(mut notes: &[u8]) -> Result<Option<u32>, KernelError> {
    while let Some(([name_len, desc_len, kind], rest)) = split_words(notes) {
        // A length that leads out of the segment ends the list: there is nothing behind it.
        let Some((name, rest)) = split_padded(rest, name_len) else { break };
        let Some((desc, rest)) = split_padded(rest, desc_len) else { break };
        if kind == NOTE_PHYS32_ENTRY && name == b"Xen\0" {
            let entry = match *desc {
                [a, b, c, d] | [a, b, c, d, 0, 0, 0, 0] => u32::from_le_bytes([a, b, c, d]),
                _ => {
                    return Err(KernelError::Damaged {
                        what: "its PVH entry is not a 32-bit address",
                    });
                }
            };
            return Ok(Some(entry));
        }
        notes = rest;
    }
    Ok(None)
}

fn split_words(bytes: &[u8]) -> Option<([u32; 3], &[u8])> {
    let (words, rest) = bytes.split_first_chunk::<12>()?;
    let word = |n: usize| u32::from_le_bytes([words[n], words[n + 1], words[n + 2], words[n + 3]]);
    Some(([word(0), word(4), word(8)], rest))
}

fn split_padded(bytes: &[u8], len: u32) -> Option<(&[u8], &[u8])> {
    let len = usize::try_from(len).ok()?;
    let (field, _) = bytes.split_at_checked(len)?;
    // The last field may lack its padding.
    let rest = bytes.get(len.checked_next_multiple_of(4)?..).unwrap_or_default();
    Some((field, rest))
}
