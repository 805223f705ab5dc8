//! A CD-ROM image with a few files in its root: ECMA-119 (ISO 9660), with their real names by Joliet
//! and by Rock Ridge (IEEE P1282), so that every guest's driver finds them.
//!
//! ```text
//! sector 16  primary volume descriptor    19, 20  path tables of the primary tree (LE, BE)
//!        17  Joliet volume descriptor     21, 22  path tables of the Joliet tree
//!        18  end of descriptors           23, 24  root directories: primary, Joliet
//!                                         25 …    the files
//! ```
//! Dates are left out: the same files make the same image.

const SECTOR: usize = 2048;
const PRIMARY: u32 = 16;
const JOLIET: u32 = 17;
const TERMINATOR: u32 = 18;
const PRIMARY_TABLES: u32 = 19;
const JOLIET_TABLES: u32 = 21;
const PRIMARY_ROOT: u32 = 23;
const JOLIET_ROOT: u32 = 24;
const FILES: u32 = 25;

/// Of the one entry of a path table: the root.
const TABLE_LEN: u32 = 10;
const DIRECTORY: u8 = 0x02;
/// UCS-2, level 3.
const JOLIET_ESCAPE: &[u8] = b"%/E";

/// A file in the root.
#[derive(Debug, Clone, Copy)]
pub(super) struct File<'a> {
    pub name: &'a str,
    /// Of letters, digits and `_` in upper case, at most eight: for drivers that know no other names.
    pub short: &'a str,
    pub data: &'a [u8],
}

/// An image that bears `label`. Few files with short names: their directory is one sector.
pub(super) fn image(label: &str, files: &[File<'_>]) -> Vec<u8> {
    let mut files = files.to_vec();
    // Directories are in the order of their names.
    files.sort_by_key(|file| file.short);
    let mut next = FILES;
    let placed: Vec<_> = files
        .into_iter()
        .map(|file| {
            let at = next;
            next += sectors(file.data);
            (file, at)
        })
        .collect();
    let mut image = vec![0; next as usize * SECTOR];
    let mut put = |sector: u32, data: &[u8]| {
        let start = sector as usize * SECTOR;
        image[start..start + data.len()].copy_from_slice(data);
    };
    put(PRIMARY, &descriptor(Tree::Primary, label, next));
    put(JOLIET, &descriptor(Tree::Joliet, label, next));
    put(TERMINATOR, b"\xffCD001\x01");
    for tree in [Tree::Primary, Tree::Joliet] {
        put(tree.tables(), &path_table(tree.root().to_le_bytes(), 1_u16.to_le_bytes()));
        put(tree.tables() + 1, &path_table(tree.root().to_be_bytes(), 1_u16.to_be_bytes()));
        put(tree.root(), &directory(tree, &placed));
    }
    for (file, at) in &placed {
        put(*at, file.data);
    }
    image
}

fn sectors(data: &[u8]) -> u32 {
    data.len().div_ceil(SECTOR) as u32
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tree {
    Primary,
    Joliet,
}

impl Tree {
    fn tables(self) -> u32 {
        match self {
            Self::Primary => PRIMARY_TABLES,
            Self::Joliet => JOLIET_TABLES,
        }
    }

    fn root(self) -> u32 {
        match self {
            Self::Primary => PRIMARY_ROOT,
            Self::Joliet => JOLIET_ROOT,
        }
    }

    fn text(self, text: &str) -> Vec<u8> {
        match self {
            Self::Primary => text.as_bytes().to_vec(),
            Self::Joliet => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        }
    }

    fn name(self, file: &File<'_>) -> Vec<u8> {
        match self {
            Self::Primary => self.text(&format!("{}.;1", file.short)),
            Self::Joliet => self.text(&format!("{};1", file.name)),
        }
    }

    /// A field of text, filled with spaces.
    fn field(self, text: &str, len: usize) -> Vec<u8> {
        let mut field = self.text(text);
        let space = self.text(" ");
        while field.len() + space.len() <= len {
            field.extend(&space);
        }
        field.resize(len, 0);
        field
    }
}

/// ECMA-119 §8.4, §8.5.
fn descriptor(tree: Tree, label: &str, size: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SECTOR);
    bytes.push(if tree == Tree::Primary { 1 } else { 2 });
    bytes.extend(b"CD001\x01\0");
    bytes.extend(tree.field("LINUX", 32));
    bytes.extend(tree.field(label, 32));
    bytes.extend([0; 8]);
    bytes.extend(both32(size));
    let mut escape = [0; 32];
    if tree == Tree::Joliet {
        escape[..JOLIET_ESCAPE.len()].copy_from_slice(JOLIET_ESCAPE);
    }
    bytes.extend(escape);
    bytes.extend(both16(1)); // volumes of the set
    bytes.extend(both16(1)); // this one's number
    bytes.extend(both16(SECTOR as u16));
    bytes.extend(both32(TABLE_LEN));
    bytes.extend(tree.tables().to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend((tree.tables() + 1).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(record(&[0], tree.root(), SECTOR as u32, DIRECTORY, &[]));
    // Volume set, publisher, preparer and application; then three names of files.
    for len in [128, 128, 128, 128, 37, 37, 37] {
        bytes.extend(tree.field("", len));
    }
    for _ in 0..4 {
        bytes.extend(b"0000000000000000\0"); // no date
    }
    bytes.push(1); // version of the directory records
    bytes.resize(SECTOR, 0);
    bytes
}

fn path_table(root: [u8; 4], parent: [u8; 2]) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    bytes.extend(root);
    bytes.extend(parent);
    bytes.extend([0, 0]); // the root's name, and a byte to make it even
    bytes
}

fn directory(tree: Tree, files: &[(File<'_>, u32)]) -> Vec<u8> {
    let (root, len) = (tree.root(), SECTOR as u32);
    let rock_ridge = tree == Tree::Primary;
    let (own, parent) = if rock_ridge {
        let mut own = SHARING_PROTOCOL.to_vec();
        own.extend(posix(0o040_555, 2));
        own.extend(EXTENSION);
        (own, posix(0o040_555, 2))
    } else {
        (Vec::new(), Vec::new())
    };
    let mut bytes = record(&[0], root, len, DIRECTORY, &own);
    bytes.extend(record(&[1], root, len, DIRECTORY, &parent));
    for (file, at) in files {
        let mut system = Vec::new();
        if rock_ridge {
            system.extend(alternate_name(file.name));
            system.extend(posix(0o100_444, 1));
        }
        bytes.extend(record(&tree.name(file), *at, file.data.len() as u32, 0, &system));
    }
    bytes
}

/// ECMA-119 §9.1.
fn record(name: &[u8], at: u32, len: u32, flags: u8, system: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(both32(at));
    bytes.extend(both32(len));
    bytes.extend([0; 7]); // no date
    bytes.extend([flags, 0, 0]);
    bytes.extend(both16(1));
    bytes.push(name.len() as u8);
    bytes.extend(name);
    for part in [&[][..], system] {
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
    }
    bytes[0] = bytes.len() as u8;
    bytes
}

/// SUSP's mark of the first record.
const SHARING_PROTOCOL: &[u8] = b"SP\x07\x01\xbe\xef\x00";
/// Which extension of SUSP is used: name, and no further words.
const EXTENSION: &[u8] = b"ER\x12\x01\x0a\x00\x00\x01RRIP_1991A";

fn alternate_name(name: &str) -> Vec<u8> {
    let mut bytes = vec![b'N', b'M', (5 + name.len()) as u8, 1, 0];
    bytes.extend(name.as_bytes());
    bytes
}

/// Mode and links; owner and group are root.
fn posix(mode: u32, links: u32) -> Vec<u8> {
    let mut bytes = vec![b'P', b'X', 36, 1];
    for value in [mode, links, 0, 0] {
        bytes.extend(both32(value));
    }
    bytes
}

fn both32(value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

fn both16(value: u16) -> [u8; 4] {
    let mut bytes = [0; 4];
    bytes[..2].copy_from_slice(&value.to_le_bytes());
    bytes[2..].copy_from_slice(&value.to_be_bytes());
    bytes
}
