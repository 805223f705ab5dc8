//! Writer for the "newc" cpio format, which is what the kernel unpacks as its first root.
//! Nodes and owners come from the archive, so no privilege is needed to make one.

use std::fs;
use std::path::Path;

use anyhow::Context;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

#[derive(Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
    known: std::collections::HashSet<String>,
}

impl Cpio {
    pub fn new() -> Cpio {
        Cpio::default()
    }

    pub fn dir(&mut self, path: &str) -> &mut Cpio {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    pub fn file(&mut self, path: &str, mode: u32, contents: &[u8]) -> &mut Cpio {
        self.entry(path, FILE | mode, (0, 0), contents)
    }

    pub fn file_from(&mut self, path: &str, mode: u32, from: &Path) -> anyhow::Result<&mut Cpio> {
        let contents = fs::read(from).with_context(|| format!("cannot read {from:?}"))?;
        Ok(self.file(path, mode, &contents))
    }

    pub fn symlink(&mut self, path: &str, to: &str) -> &mut Cpio {
        self.entry(path, SYMLINK | 0o777, (0, 0), to.as_bytes())
    }

    pub fn character_device(&mut self, path: &str, mode: u32, number: (u32, u32)) -> &mut Cpio {
        self.entry(path, CHARACTER_DEVICE | mode, number, &[])
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.append("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8]) -> &mut Cpio {
        let path = path.trim_start_matches('/');
        // Parents first: the kernel makes none by itself.
        for (at, _) in path.match_indices('/') {
            if self.known.insert(path[..at].to_owned()) {
                self.append(&path[..at], DIRECTORY | 0o755, (0, 0), &[]);
            }
        }
        if self.known.insert(path.to_owned()) {
            self.append(path, mode, device, contents);
        }
        self
    }

    fn append(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // mtime: the same input gives the same archive
            u32::try_from(contents.len()).expect("files of an initramfs are far below 4 GiB"),
            0,
            0,
            device.0,
            device.1,
            u32::try_from(path.len() + 1).expect("paths are short"),
            0, // checksum, unused in this variant
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(contents);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_their_files_and_only_once() {
        let mut cpio = Cpio::new();
        cpio.file("/a/b/one", 0o644, b"1").file("/a/b/two", 0o644, b"22");
        let bytes = cpio.finish();
        let names: Vec<_> = ["a\0", "a/b\0", "a/b/one\0", "a/b/two\0", "TRAILER!!!\0"]
            .iter()
            .map(|name| {
                let found: Vec<_> = bytes
                    .windows(name.len() + 8)
                    // The name follows the checksum field of its header.
                    .enumerate()
                    .filter(|(_, w)| w.starts_with(b"00000000") && w.ends_with(name.as_bytes()))
                    .map(|(at, _)| at)
                    .collect();
                assert_eq!(found.len(), 1, "{name:?} in {found:?}");
                found[0]
            })
            .collect();
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn the_header_is_what_the_kernel_documents() {
        let mut cpio = Cpio::new();
        cpio.file("x", 0o755, b"abc");
        let bytes = cpio.finish();
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[14..22], b"000081ed");
        assert_eq!(&bytes[54..62], b"00000003");
        assert_eq!(&bytes[94..102], b"00000002");
        assert_eq!(&bytes[110..112], b"x\0");
        assert_eq!(&bytes[112..116], b"abc\0");
    }
}
