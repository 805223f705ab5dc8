//! Checkpoints as bitmaps: one is active on each disk, older ones are frozen. What was written since
//! a checkpoint is what its bitmap and all later ones have marked.

use vmm_protocol::backup::{BitmapChange, BitmapStatus};
use xml::checkpoint::CheckpointKind;
use xml::device::disk::DiskFormat;
use xml::{CheckpointDef, DomainDef};

use super::plan::{alias, find, is_kept};
use crate::checkpoints::{Checkpoint, CheckpointDisk, MOST};
use crate::error::{Code, Error};

/// As QEMU takes it for clusters of the usual size.
const GRANULARITY: u64 = 65536;

pub(super) fn position(chain: &[Checkpoint], name: &str) -> Result<usize, Error> {
    chain.iter().position(|checkpoint| checkpoint.name == name).ok_or_else(|| {
        let known: Vec<_> = chain.iter().map(|checkpoint| &*checkpoint.name).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let text = format!("the domain has no checkpoint {name:?}; it has {known}");
        Error::new(Code::NotFound, text)
    })
}

/// Bitmaps of what was written to `disk` since checkpoint `name`.
pub(super) fn since(chain: &[Checkpoint], name: &str, disk: &str) -> Result<Vec<String>, Error> {
    let at = position(chain, name)?;
    if chain[at].bitmap(disk).is_none() {
        let text =
            format!("checkpoint {name:?} does not know disk {disk}: make a full backup of it");
        return Err(Error::new(Code::InvalidState, text));
    }
    let bitmaps = chain[at..].iter().filter_map(|checkpoint| checkpoint.bitmap(disk));
    Ok(bitmaps.map(str::to_owned).collect())
}

/// What a `<domaincheckpoint>` means for a domain as it runs.
pub(super) fn new(
    wanted: CheckpointDef,
    live: &DomainDef,
    chain: &[Checkpoint],
    now: i64,
) -> Result<Checkpoint, Error> {
    let name = wanted.name.unwrap_or_else(|| now.to_string());
    if chain.iter().any(|checkpoint| checkpoint.name == name) {
        let text = format!("the domain has a checkpoint {name:?} already");
        return Err(Error::new(Code::Exists, text));
    }
    if chain.len() >= MOST {
        let text = format!("the domain has {MOST} checkpoints, which is the most: delete some");
        return Err(Error::new(Code::InvalidState, text));
    }
    let listed = wanted.disks.all;
    for disk in &listed {
        if disk.checkpoint != Some(CheckpointKind::No) {
            find(live, &disk.name)?;
        }
    }
    let mut disks = Vec::new();
    for disk in live.devices.disks.iter().filter(|disk| is_kept(disk)) {
        let target = &disk.target.dev;
        let asked = listed.iter().find(|it| it.name == *target);
        let recorded = match asked {
            Some(asked) => asked.checkpoint != Some(CheckpointKind::No),
            None => listed.is_empty(),
        };
        let format = disk.driver.as_ref().and_then(|driver| driver.format);
        if recorded && format != Some(DiskFormat::Qcow2) {
            let format = format.unwrap_or(DiskFormat::Raw);
            let text = format!(
                "checkpoint for disk {target} unsupported for storage type {format}: only qcow2 \
                 keeps what was written since; leave it out (checkpoint='no')"
            );
            return Err(Error::new(Code::Unsupported, text));
        }
        let own = asked.and_then(|asked| asked.bitmap.clone()).unwrap_or_else(|| name.clone());
        disks.push(CheckpointDisk { disk: target.clone(), bitmap: recorded.then_some(own) });
    }
    if disks.iter().all(|disk| disk.bitmap.is_none()) {
        let text = "there is no disk that the checkpoint could be of";
        return Err(Error::new(Code::InvalidArgument, text));
    }
    let created = u64::try_from(now).unwrap_or(0);
    let mut domain = crate::ops::without_secrets(live.clone());
    domain.forget_run();
    Ok(Checkpoint {
        name,
        description: wanted.description,
        created,
        disks,
        domain: domain.to_xml(),
    })
}

/// What the VMM does at the moment of a new checkpoint.
pub(super) fn begin(
    new: &Checkpoint,
    live: &DomainDef,
    chain: &[Checkpoint],
    there: &[BitmapStatus],
) -> Result<Vec<BitmapChange>, Error> {
    let mut changes = Vec::new();
    for (disk, bitmap) in recorded(new) {
        let id = alias(find(live, disk)?);
        for old in there.iter().filter(|it| it.disk == id && it.enabled) {
            if chain.iter().any(|checkpoint| checkpoint.bitmap(disk) == Some(&*old.name)) {
                let (disk, bitmap) = (id.clone(), old.name.clone());
                changes.push(BitmapChange::Enable { disk, bitmap, enabled: false });
            }
        }
        changes.push(BitmapChange::Add {
            disk: id,
            bitmap: bitmap.to_owned(),
            granularity: GRANULARITY,
            persistent: true,
        });
    }
    Ok(changes)
}

/// What the VMM does when the checkpoint at `at` goes: its parent has recorded what it had.
pub(super) fn delete(
    chain: &[Checkpoint],
    at: usize,
    live: &DomainDef,
    there: &[BitmapStatus],
) -> Vec<BitmapChange> {
    let mut changes = Vec::new();
    for (disk, bitmap) in recorded(&chain[at]) {
        // A disk that has gone took its bitmaps with it.
        let Ok(found) = find(live, disk) else { continue };
        let id = alias(found);
        let status = |name: &str| there.iter().find(|it| it.disk == id && it.name == name);
        let Some(gone) = status(bitmap) else { continue };
        let parent = chain[..at].iter().rev().find_map(|it| it.bitmap(disk)).and_then(status);
        if let Some(parent) = parent.filter(|it| !it.inconsistent && !gone.inconsistent) {
            let (into, from) = (parent.name.clone(), bitmap.to_owned());
            changes.push(BitmapChange::Merge { disk: id.clone(), into, from });
            if gone.enabled {
                let (disk, bitmap) = (id.clone(), parent.name.clone());
                changes.push(BitmapChange::Enable { disk, bitmap, enabled: true });
            }
        }
        changes.push(BitmapChange::Remove { disk: id, bitmap: bitmap.to_owned() });
    }
    changes
}

fn recorded(checkpoint: &Checkpoint) -> impl Iterator<Item = (&str, &str)> {
    checkpoint.disks.iter().filter_map(|it| Some((&*it.disk, it.bitmap.as_deref()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(name: &str, disks: &[&str]) -> Checkpoint {
        let disk = |disk: &&str| CheckpointDisk {
            disk: (*disk).to_owned(),
            bitmap: Some(name.to_owned()),
        };
        Checkpoint {
            name: name.to_owned(),
            description: None,
            created: 0,
            disks: disks.iter().map(disk).collect(),
            domain: String::new(),
        }
    }

    fn live() -> DomainDef {
        let text = "<domain type='kvm'><name>d</name><memory>65536</memory>\
            <os><type arch='x86_64' machine='q35'>hvm</type></os><devices>\
            <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/a'/>\
            <target dev='vda' bus='virtio'/><alias name='virtio-disk0'/></disk>\
            <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/b'/>\
            <target dev='vdb' bus='virtio'/><alias name='virtio-disk1'/></disk>\
            </devices></domain>";
        DomainDef::parse(text).unwrap().value
    }

    fn status(name: &str, enabled: bool) -> BitmapStatus {
        BitmapStatus {
            disk: "virtio-disk0".into(),
            name: name.into(),
            granularity: GRANULARITY,
            enabled,
            persistent: true,
            inconsistent: false,
            dirty: 0,
        }
    }

    #[test]
    fn what_was_written_since_is_in_all_bitmaps_from_there_on() {
        let chain =
            [checkpoint("a", &["vda"]), checkpoint("b", &["vdb"]), checkpoint("c", &["vda"])];
        assert_eq!(since(&chain, "a", "vda").unwrap(), ["a", "c"]);
        assert_eq!(since(&chain, "c", "vda").unwrap(), ["c"]);
        assert_eq!(since(&chain, "b", "vda").unwrap_err().code, Code::InvalidState);
        assert_eq!(since(&chain, "d", "vda").unwrap_err().code, Code::NotFound);
    }

    #[test]
    fn a_new_checkpoint_freezes_the_one_before_and_raw_disks_are_refused_by_name() {
        let chain = [checkpoint("a", &["vda"])];
        let parse = |text: &str| CheckpointDef::parse(text).unwrap().value;
        let refused = new(CheckpointDef::default(), &live(), &chain, 5).unwrap_err();
        assert!(refused.message.contains("disk vdb unsupported for storage type raw"), "{refused}");
        let wanted =
            parse("<domaincheckpoint><disks><disk name='vda'/></disks></domaincheckpoint>");
        let made = new(wanted, &live(), &chain, 5).unwrap();
        assert_eq!(
            (made.name.as_str(), made.bitmap("vda"), made.bitmap("vdb")),
            ("5", Some("5"), None)
        );
        let there = [status("a", true), status("foreign", true)];
        let changes = begin(&made, &live(), &chain, &there).unwrap();
        let disk = || "virtio-disk0".to_owned();
        let frozen = BitmapChange::Enable { disk: disk(), bitmap: "a".into(), enabled: false };
        let added = BitmapChange::Add {
            disk: disk(),
            bitmap: "5".into(),
            granularity: GRANULARITY,
            persistent: true,
        };
        assert_eq!(changes, [frozen, added]);
    }

    #[test]
    fn a_checkpoint_that_goes_leaves_what_it_had_to_its_parent() {
        let chain = [checkpoint("a", &["vda"]), checkpoint("b", &["vda"])];
        let there = [status("a", false), status("b", true)];
        let disk = || "virtio-disk0".to_owned();
        assert_eq!(
            delete(&chain, 1, &live(), &there),
            [
                BitmapChange::Merge { disk: disk(), into: "a".into(), from: "b".into() },
                BitmapChange::Enable { disk: disk(), bitmap: "a".into(), enabled: true },
                BitmapChange::Remove { disk: disk(), bitmap: "b".into() },
            ]
        );
        // The oldest one has no parent: what it had is only of use to itself.
        let removed = BitmapChange::Remove { disk: disk(), bitmap: "a".into() };
        assert_eq!(delete(&chain, 0, &live(), &there), [removed]);
        assert_eq!(delete(&chain, 0, &live(), &[]), []);
    }
}
