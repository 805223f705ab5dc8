//! Giving an image another one to lie on, in name alone: what it reads as is the caller's affair.

use super::header::Header;
use super::spec::*;
use crate::bytes::{be32, be64, put};
use crate::description::Reference;
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;

/// Name another backing image in the header of `file`, which nobody has open.
///
/// # Errors
/// When it is no image that can be written, when the name does not fit, or the host refuses.
pub fn rebase(file: &dyn Storage, backing: &Reference) -> Result<(), ImageError> {
    let header = Header::read(file)?;
    if header.backing.as_ref() == Some(backing) {
        return Ok(());
    }
    let mut first = vec![0; header.cluster_size() as usize];
    file.read(&mut first, 0).map_err(ImageError::io("cannot read the header"))?;
    let renewed = renewed(&first, &header, backing)?;
    let write = || {
        file.write(&renewed, 0)?;
        file.sync()
    };
    write().map_err(ImageError::io("cannot write the header"))
}

/// The first cluster with another name in it: fixed fields, extensions, the name.
fn renewed(first: &[u8], header: &Header, backing: &Reference) -> Result<Vec<u8>, ImageError> {
    let short = || ImageError::damaged(Format::Qcow2, "a header that is cut off");
    let fixed = if header.version >= 3 { be32(first, 100) } else { V2_HEADER } as usize;
    let mut out = first.get(..fixed).ok_or_else(short)?.to_vec();
    let end = match be64(first, 8) {
        0 => first.len(),
        name => usize::try_from(name).unwrap_or(first.len()).min(first.len()),
    };
    let mut at = fixed;
    while at + 8 <= end {
        let (kind, len) = (be32(first, at), be32(first, at + 4) as usize);
        let whole = 8 + len.next_multiple_of(8);
        if kind == 0 {
            break;
        }
        let extension = first.get(at..at.saturating_add(whole)).ok_or_else(short)?;
        if kind != EXTENSION_BACKING_FORMAT {
            out.extend_from_slice(extension);
        }
        at += whole;
    }
    if let Some(format) = &backing.format {
        out.extend(EXTENSION_BACKING_FORMAT.to_be_bytes());
        out.extend((format.len() as u32).to_be_bytes());
        out.extend(format.as_bytes());
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out.extend([0; 8]);
    let (place, len) = (out.len() as u64, backing.name.len());
    out.extend(backing.name.as_bytes());
    if len > MOST_NAME as usize || out.len() > first.len() {
        let text = "the backing image's name does not fit into the first cluster";
        return Err(ImageError::Invalid(text.into()));
    }
    put(&mut out, 8, &place.to_be_bytes());
    put(&mut out, 16, &(len as u32).to_be_bytes());
    out.resize(first.len(), 0);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::{CreateOptions, create, describe};
    use super::*;
    use crate::storage::MemoryStorage;

    fn reference(name: &str, format: Option<&str>) -> Reference {
        Reference { name: name.to_owned(), format: format.map(str::to_owned) }
    }

    #[test]
    fn an_image_names_another_one_below_and_all_else_stays() {
        for version in [2, 3] {
            let file = MemoryStorage::default();
            let mut options = CreateOptions { version, ..CreateOptions::new(1 << 20) };
            options.backing = Some(reference("base", Some("raw")));
            create(&file, &options).unwrap();
            let before = describe(&file).unwrap();
            for other in [
                reference("/a/much/longer/name.qcow2", Some("qcow2")),
                reference("b", None),
                reference("base", Some("raw")),
            ] {
                rebase(&file, &other).unwrap();
                let after = describe(&file).unwrap();
                assert_eq!(after.backing.as_ref(), Some(&other));
                assert_eq!(crate::Description { backing: before.backing.clone(), ..after }, before);
            }
        }
    }

    #[test]
    fn a_name_that_does_not_fit_changes_nothing() {
        let file = MemoryStorage::default();
        let options = CreateOptions { cluster_size: 512, ..CreateOptions::new(1 << 20) };
        create(&file, &options).unwrap();
        let before = describe(&file).unwrap();
        assert!(rebase(&file, &reference(&"x".repeat(400), Some("raw"))).is_err());
        assert_eq!(describe(&file).unwrap(), before);
    }
}
