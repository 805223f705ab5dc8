//! Bitmaps of a domain that is off: they lie in its images, and are changed there. Those of one image
//! change together, or not at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use broker::Broker;
use image::qcow2::{BitmapInfo, DirtyBitmap, Qcow2};
use vmm_protocol::backup::{BitmapChange, BitmapStatus};
use xml::DomainDef;
use xml::device::disk::{Disk, DiskFormat};

use super::plan::{alias, is_kept};
use crate::error::{Code, Error};
use crate::snapshots::{internal, place};
use crate::storage::PoolView;

/// The images of a domain that can have bitmaps, by the aliases of their disks.
pub(super) struct Images(BTreeMap<String, PathBuf>);

impl Images {
    pub(super) fn of(def: &DomainDef, pools: &[PoolView]) -> Self {
        let format = |disk: &Disk| disk.driver.as_ref().and_then(|driver| driver.format);
        let disks = def.devices.disks.iter().filter(|disk| is_kept(disk));
        let disks = disks.filter(|disk| format(disk) == Some(DiskFormat::Qcow2));
        Self(disks.filter_map(|disk| Some((alias(disk), place(disk, pools)?))).collect())
    }

    /// What there is. Blocks.
    pub(super) fn list(&self, broker: &dyn Broker) -> Result<Vec<BitmapStatus>, Error> {
        let mut found = Vec::new();
        for (disk, path) in &self.0 {
            let bitmaps = read(&internal::open(broker, path)?, path)?;
            found.extend(bitmaps.iter().map(|bitmap| status(disk, bitmap)));
        }
        Ok(found)
    }

    /// All of them, image by image. Blocks.
    pub(super) fn change(
        &self,
        broker: &dyn Broker,
        changes: &[BitmapChange],
    ) -> Result<(), Error> {
        let mut by_disk: BTreeMap<&str, Vec<&BitmapChange>> = BTreeMap::new();
        for change in changes {
            by_disk.entry(change.disk()).or_default().push(change);
        }
        // What cannot be is found out before anything is changed.
        let mut ready = Vec::new();
        for (disk, changes) in by_disk {
            let path = self.0.get(disk).ok_or_else(|| {
                let text = format!("disk {disk} has no image that keeps what was written since");
                Error::new(Code::Unsupported, text)
            })?;
            let opened = internal::open(broker, path)?;
            let mut bitmaps = read(&opened, path)?;
            for change in changes {
                apply(&mut bitmaps, change, image::Image::size(&opened))
                    .map_err(|why| failed(path, &why))?;
            }
            ready.push((opened, bitmaps, path));
        }
        ready.iter().try_for_each(|(opened, bitmaps, path)| {
            opened.store_bitmaps(bitmaps).map_err(|error| failed(path, &error.in_full()))
        })
    }
}

fn read(opened: &Qcow2, path: &Path) -> Result<Vec<DirtyBitmap>, Error> {
    opened.bitmaps().map_err(|error| failed(path, &error.in_full()))
}

fn failed(path: &Path, why: &str) -> Error {
    let text = format!("image {}: its dirty bitmaps cannot be changed: {why}", path.display());
    Error::new(Code::ResourceMissing, text)
}

fn status(disk: &str, bitmap: &DirtyBitmap) -> BitmapStatus {
    let BitmapInfo { name, granularity, enabled, inconsistent } = bitmap.info.clone();
    let marked: u64 = bitmap.words.iter().map(|word| u64::from(word.count_ones())).sum();
    BitmapStatus {
        disk: disk.to_owned(),
        name,
        granularity,
        enabled,
        persistent: true,
        inconsistent,
        dirty: marked.saturating_mul(granularity),
    }
}

fn apply(bitmaps: &mut Vec<DirtyBitmap>, change: &BitmapChange, size: u64) -> Result<(), String> {
    let at = |bitmaps: &[DirtyBitmap], name: &str| {
        let found = bitmaps.iter().position(|bitmap| bitmap.info.name == name);
        found.ok_or_else(|| format!("there is no bitmap {name:?}"))
    };
    match change {
        BitmapChange::Add { bitmap, granularity, .. } => {
            if at(bitmaps, bitmap).is_ok() {
                return Err(format!("there is a bitmap {bitmap:?} already"));
            }
            let (name, granularity) = (bitmap.clone(), *granularity);
            let info = BitmapInfo { name, granularity, enabled: true, inconsistent: false };
            let words = vec![0; DirtyBitmap::words_for(size, granularity)];
            let new = DirtyBitmap { info, words };
            new.check().map_err(|error| error.in_full())?;
            bitmaps.push(new);
        }
        BitmapChange::Remove { bitmap, .. } => bitmaps.retain(|it| it.info.name != *bitmap),
        BitmapChange::Enable { bitmap, enabled, .. } => {
            let at = at(bitmaps, bitmap)?;
            bitmaps[at].info.enabled = *enabled;
        }
        BitmapChange::Merge { into, from, .. } => {
            let from = bitmaps[at(bitmaps, from)?].clone();
            let into = at(bitmaps, into)?;
            bitmaps[into].merge(&from).map_err(|error| error.in_full())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;
    const GRANULARITY: u64 = 1 << 16;

    fn add(name: &str) -> BitmapChange {
        BitmapChange::Add {
            disk: "d".to_owned(),
            bitmap: name.to_owned(),
            granularity: GRANULARITY,
            persistent: true,
        }
    }

    #[test]
    fn a_checkpoint_that_goes_leaves_what_it_had_to_the_one_before() {
        let mut bitmaps = Vec::new();
        let (disk, a, b) = ("d".to_owned(), "a".to_owned(), "b".to_owned());
        for name in ["a", "b"] {
            apply(&mut bitmaps, &add(name), SIZE).unwrap();
        }
        assert!(apply(&mut bitmaps, &add("a"), SIZE).unwrap_err().contains("already"));
        bitmaps[1].words[0] = 0b101;
        assert_eq!(status("d", &bitmaps[1]).dirty, 2 * GRANULARITY);
        for change in [
            BitmapChange::Enable { disk: disk.clone(), bitmap: a.clone(), enabled: false },
            BitmapChange::Merge { disk: disk.clone(), into: a, from: b.clone() },
            BitmapChange::Remove { disk: disk.clone(), bitmap: b.clone() },
            // None there is no error.
            BitmapChange::Remove { disk: disk.clone(), bitmap: b.clone() },
        ] {
            apply(&mut bitmaps, &change, SIZE).unwrap();
        }
        assert_eq!(
            (bitmaps.len(), bitmaps[0].words[0], bitmaps[0].info.enabled),
            (1, 0b101, false)
        );
        let enable = BitmapChange::Enable { disk, bitmap: b, enabled: true };
        assert!(apply(&mut bitmaps, &enable, SIZE).unwrap_err().contains("no bitmap \"b\""));
    }
}
