//! What an image says lies below it, changed in its header.

use super::header::Header;
use super::spec::*;
use crate::bytes::{be32, be64, put};
use crate::description::Reference;
use crate::error::ImageError;
use crate::storage::Storage;

/// Let the image in `file` name `backing` as the one below, or none. It reads the same only where all
/// that it has not itself is the same there: what it has below is not looked at. Nobody may have it
/// open for writing with something that is not in the file yet.
///
/// The header is replaced in one write, so that a process that is killed leaves one link or the other.
///
/// # Errors
/// When the image is damaged, the names do not fit into its first cluster, or the host refuses.
pub fn relink(file: &dyn Storage, backing: Option<&Reference>) -> Result<(), ImageError> {
    let header = Header::read(file)?;
    let mut cluster = vec![0; header.cluster_size() as usize];
    file.read(&mut cluster, 0).map_err(ImageError::io("cannot read the header"))?;
    let fixed = if header.version >= 3 { be32(&cluster, 100) } else { V2_HEADER } as usize;
    let mut new = cluster[..fixed].to_vec();
    let mut extension = |kind: u32, data: &[u8]| {
        new.extend(kind.to_be_bytes());
        new.extend((data.len() as u32).to_be_bytes());
        new.extend(data);
        new.resize(new.len().next_multiple_of(8), 0);
    };
    if let Some(format) = backing.and_then(|backing| backing.format.as_ref()) {
        extension(EXTENSION_BACKING_FORMAT, format.as_bytes());
    }
    // They made sense when the header was read.
    let name_at = be64(&cluster, 8) as usize;
    let mut at = fixed;
    while let Some((kind, data)) = next(&cluster, at, name_at) {
        if kind != EXTENSION_BACKING_FORMAT {
            extension(kind, data);
        }
        at += 8 + data.len().next_multiple_of(8);
    }
    extension(0, &[]);
    let (place, len) = match backing {
        Some(Reference { name, .. }) => (new.len() as u64, name.len() as u32),
        None => (0, 0),
    };
    put(&mut new, 8, &place.to_be_bytes());
    put(&mut new, 16, &len.to_be_bytes());
    if let Some(backing) = backing {
        new.extend(backing.name.as_bytes());
    }
    if len > MOST_NAME || new.len() > cluster.len() {
        let text = "the name of the image below does not fit into the header";
        return Err(ImageError::Invalid(text.into()));
    }
    // No longer than a block of the host, where all of it is: a cluster may be 2 MiB.
    let old = at.max(name_at + be32(&cluster, 16) as usize) + 8;
    new.resize(new.len().max(old).next_multiple_of(512).min(cluster.len()), 0);
    let act = "cannot write the header";
    file.write(&new, 0).map_err(ImageError::io(act))?;
    file.sync().map_err(ImageError::io(act))
}

/// The extension at `at`, which ends before the name.
fn next(cluster: &[u8], at: usize, name_at: usize) -> Option<(u32, &[u8])> {
    let end = if name_at == 0 { cluster.len() } else { name_at };
    let cluster = cluster.get(..end)?;
    let head = cluster.get(at..at + 8)?;
    let (kind, len) = (be32(head, 0), be32(head, 4) as usize);
    if kind == 0 {
        return None;
    }
    Some((kind, cluster.get(at + 8..)?.get(..len)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qcow2::{CreateOptions, Repair, check, create, describe};
    use crate::storage::MemoryStorage;

    fn reference(name: &str, format: Option<&str>) -> Reference {
        Reference { name: name.to_owned(), format: format.map(str::to_owned) }
    }

    #[test]
    fn an_image_names_another_one_below_it_or_none_and_keeps_all_else() {
        let first = reference("a-base-with-a-long-name.img", Some("raw"));
        let options = CreateOptions {
            backing: Some(first.clone()),
            extended_l2: true,
            ..CreateOptions::new(1 << 30)
        };
        let file = MemoryStorage::default();
        create(&file, &options).unwrap();
        let before = file.bytes();
        let details = describe(&file).unwrap().details;
        for backing in [Some(reference("b", Some("qcow2"))), None, Some(reference("c", None))] {
            relink(&file, backing.as_ref()).unwrap();
            let now = describe(&file).unwrap();
            assert_eq!((now.backing, now.details), (backing, details.clone()));
            let report = check(&file, Repair::Nothing).unwrap();
            assert_eq!((report.corruptions, report.leaks), (0, 0));
        }
        relink(&file, Some(&first)).unwrap();
        assert_eq!(file.bytes(), before);
    }

    #[test]
    fn a_name_that_does_not_fit_changes_nothing() {
        let file = MemoryStorage::default();
        create(&file, &CreateOptions { cluster_size: 512, version: 2, ..CreateOptions::new(4096) })
            .unwrap();
        let before = file.bytes();
        let error = relink(&file, Some(&reference(&"x".repeat(600), None))).unwrap_err();
        assert!(error.to_string().contains("does not fit"), "{error}");
        assert_eq!(file.bytes(), before);
    }
}
