//! Kernel image files: small, and wrong in whatever way a test wants.

/// A bzImage of protocol 2.15 with `payload` as its protected-mode part.
pub fn bzimage(payload: &[u8]) -> Vec<u8> {
    const SETUP_SECTS: usize = 3;
    let mut image = vec![0; (SETUP_SECTS + 1) * 512];
    image.extend_from_slice(payload);
    while !image.len().is_multiple_of(16) {
        image.push(0);
    }
    let syssize = ((image.len() - (SETUP_SECTS + 1) * 512) / 16) as u32;
    let fields: &[(usize, &[u8])] = &[
        (0x1f1, &[SETUP_SECTS as u8]),
        (0x1f4, &syssize.to_le_bytes()),
        (0x1fe, &[0x55, 0xaa]),
        (0x200, &[0xeb, 0x6a]), // the header ends at 0x26c
        (0x202, b"HdrS"),
        (0x206, &0x020f_u16.to_le_bytes()),
        (0x211, &[1]),                           // loaded high
        (0x22c, &0x7fff_ffff_u32.to_le_bytes()), // initrd_addr_max
        (0x230, &0x20_0000_u32.to_le_bytes()),   // alignment
        (0x234, &[1, 21]),                       // relocatable
        (0x236, &0x7f_u16.to_le_bytes()),        // xloadflags
        (0x238, &2047_u32.to_le_bytes()),        // cmdline_size
        (0x258, &0x100_0000_u64.to_le_bytes()),  // pref_address
        (0x260, &0x80_0000_u32.to_le_bytes()),   // init_size
    ];
    for (at, bytes) in fields {
        patch(&mut image, *at, bytes);
    }
    image
}

/// A segment of an ELF image: type, guest address, contents, size in memory.
pub struct Part<'a> {
    pub kind: u32,
    pub at: u64,
    pub bytes: &'a [u8],
    pub len: u64,
}

pub fn load(at: u64, bytes: &[u8]) -> Part<'_> {
    Part { kind: 1, at, bytes, len: bytes.len() as u64 }
}

pub fn note(bytes: &[u8]) -> Part<'_> {
    Part { kind: 4, at: 0, bytes, len: bytes.len() as u64 }
}

/// A Xen note of type 18.
pub fn pvh_note(entry: &[u8]) -> Vec<u8> {
    let words = [4, entry.len() as u32, 18];
    [words.map(u32::to_le_bytes).concat(), b"Xen\0".to_vec(), entry.to_vec()].concat()
}

pub fn elf(entry: u64, parts: &[Part<'_>]) -> Vec<u8> {
    let mut image = b"\x7fELF\x02\x01\x01".to_vec();
    image.resize(16, 0);
    image.extend([2u16, 62].map(u16::to_le_bytes).concat());
    image.extend(1u32.to_le_bytes());
    image.extend([entry, 64, 0].map(u64::to_le_bytes).concat());
    image.extend(0u32.to_le_bytes());
    image.extend([64, 56, parts.len() as u16, 0, 0, 0].map(u16::to_le_bytes).concat());
    let mut offset = 64 + 56 * parts.len() as u64;
    for part in parts {
        image.extend([part.kind, 7].map(u32::to_le_bytes).concat());
        let size = part.bytes.len() as u64;
        let words = [offset, part.at, part.at, size, part.len, 4096];
        image.extend(words.map(u64::to_le_bytes).concat());
        offset += size;
    }
    for part in parts {
        image.extend_from_slice(part.bytes);
    }
    image
}

pub fn patch(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}
