//! Debian's cloud kernel, which is both the emulated host's kernel and the stock guest's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::apt::Apt;
use crate::modules::Modules;
use crate::paths;

/// One unpacked kernel package with a static busybox beside it.
pub struct Kernel {
    tree: PathBuf,
    pub release: String,
}

impl Kernel {
    pub fn find() -> anyhow::Result<Kernel> {
        let tree = paths::made_once("kernel", |tree| {
            let apt = Apt::open()?;
            let meta = apt.depends("linux-image-cloud-amd64")?;
            let image = meta
                .iter()
                .find(|name| name.starts_with("linux-image-"))
                .context("linux-image-cloud-amd64 names no kernel")?;
            apt.unpack(&[image, "busybox-static"], tree)?;
            let kernel = Kernel::in_tree(tree)?;
            let image = fs::read(kernel.vmlinuz())?;
            fs::write(tree.join("boot/vmlinux"), unpack_payload(&image)?)?;
            Ok(())
        })?;
        Kernel::in_tree(&tree)
    }

    fn in_tree(tree: &Path) -> anyhow::Result<Kernel> {
        let mut releases = fs::read_dir(tree.join("lib/modules"))?;
        let release = releases.next().context("the kernel package has no modules")??.file_name();
        let release = release.into_string().ok().context("a kernel release is ASCII")?;
        Ok(Kernel { tree: tree.to_owned(), release })
    }

    /// The compressed image, as a bootloader would load it.
    pub fn vmlinuz(&self) -> PathBuf {
        self.tree.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The ELF file inside, with its PVH entry note.
    pub fn vmlinux(&self) -> PathBuf {
        self.tree.join("boot/vmlinux")
    }

    pub fn busybox(&self) -> PathBuf {
        self.tree.join("bin/busybox")
    }

    pub fn modules(&self) -> anyhow::Result<Modules> {
        Modules::scan(&self.tree.join("lib/modules").join(&self.release))
    }
}

/// Unpacks the kernel proper from a bzImage (Documentation/arch/x86/boot.rst: `setup_sects`,
/// `payload_offset`, `payload_length`). Debian compresses it as an LZ4 "legacy" stream.
fn unpack_payload(image: &[u8]) -> anyhow::Result<Vec<u8>> {
    let number = |at: usize| -> anyhow::Result<usize> {
        let bytes = image.get(at..at + 4).context("the kernel image is cut short")?;
        Ok(u32::from_le_bytes(bytes.try_into()?).try_into()?)
    };
    if image.get(0x202..0x206) != Some(b"HdrS") {
        bail!("not a bzImage");
    }
    let setup_sectors = usize::from(image[0x1f1]).max(1);
    let start = (setup_sectors + 1) * 512 + number(0x248)?;
    let payload =
        image.get(start..start + number(0x24c)?).context("the payload lies outside the image")?;
    unpack_lz4_legacy(payload)
}

const LZ4_LEGACY_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
const LZ4_LEGACY_BLOCK: usize = 8 << 20;

fn unpack_lz4_legacy(stream: &[u8]) -> anyhow::Result<Vec<u8>> {
    let Some(mut rest) = stream.strip_prefix(&LZ4_LEGACY_MAGIC) else {
        bail!("the kernel is not compressed with LZ4 but as {:02x?}", stream.get(..4));
    };
    let mut plain = Vec::new();
    // The last four bytes are the unpacked size, which the kernel's build appends.
    while rest.len() > 4 {
        let (size, tail) = rest.split_at(4);
        let size: usize = u32::from_le_bytes(size.try_into()?).try_into()?;
        let block = tail.get(..size).context("an LZ4 block is cut short")?;
        let at = plain.len();
        plain.resize(at + LZ4_LEGACY_BLOCK, 0);
        let length = lz4_flex::block::decompress_into(block, &mut plain[at..])?;
        plain.truncate(at + length);
        rest = &tail[size..];
    }
    let announced: usize = u32::from_le_bytes(rest.try_into()?).try_into()?;
    if announced != plain.len() {
        bail!("the kernel unpacked to {} bytes instead of {announced}", plain.len());
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An LZ4 block of one run of literals.
    fn literals(text: &[u8]) -> Vec<u8> {
        let mut block = vec![u8::try_from(text.len()).unwrap() << 4];
        block.extend_from_slice(text);
        block
    }

    fn stream(blocks: &[&[u8]], announced: u32) -> Vec<u8> {
        let mut stream = LZ4_LEGACY_MAGIC.to_vec();
        for text in blocks {
            let block = literals(text);
            stream.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
            stream.extend_from_slice(&block);
        }
        stream.extend_from_slice(&announced.to_le_bytes());
        stream
    }

    #[test]
    fn blocks_of_a_legacy_stream_are_joined() {
        let plain = unpack_lz4_legacy(&stream(&[b"hello ", b"kernel"], 12)).unwrap();
        assert_eq!(plain, b"hello kernel");
    }

    #[test]
    fn a_stream_of_another_length_than_announced_is_refused() {
        assert!(unpack_lz4_legacy(&stream(&[b"hello"], 6)).is_err());
        assert!(unpack_lz4_legacy(b"\x1f\x8b\x08\x00").is_err());
    }
}
