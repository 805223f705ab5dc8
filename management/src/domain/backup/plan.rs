//! [`Plan`]: what a `<domainbackup>` means for a domain as it runs.

use std::path::{Path, PathBuf};

use xml::backup::{BackupDisk, BackupFile, BackupFileType, DiskBackupMode};
use xml::device::disk::{Disk, DiskDevice, DiskFormat, Location};
use xml::{BackupDef, DomainDef, YesNo};

use super::chain;
use crate::checkpoints::Checkpoint;
use crate::error::{Code, Error};

#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// With everything that was not said.
    pub def: BackupDef,
    pub disks: Vec<PlannedDisk>,
    /// Targets are there already.
    pub reuse: bool,
}

#[derive(Debug, Clone)]
pub(super) struct PlannedDisk {
    pub target: String,
    pub alias: String,
    /// Bitmaps of what is to be backed up; none: everything.
    pub since: Vec<String>,
    pub export: String,
    pub exported_bitmap: Option<String>,
    pub scratch: PathBuf,
    /// Of a push.
    pub file: PathBuf,
    pub block: bool,
    pub qcow2: bool,
}

impl Plan {
    /// `live`: with aliases.
    pub(super) fn of(
        mut def: BackupDef,
        live: &DomainDef,
        chain: &[Checkpoint],
        now: i64,
    ) -> Result<Self, Error> {
        if def.disks.all.is_empty() {
            let wanted = live.devices.disks.iter().filter(|disk| is_kept(disk));
            def.disks.all = wanted.map(|disk| of_target(&disk.target.dev)).collect();
        }
        let mut disks: Vec<PlannedDisk> = Vec::new();
        let (pull, since) = (def.is_pull(), def.incremental.clone());
        for wanted in &mut def.disks.all {
            if wanted.backup == Some(YesNo::No) {
                continue;
            }
            if disks.iter().any(|disk| disk.target == wanted.name) {
                let text = format!("disk {} is named twice in <disks>", wanted.name);
                return Err(Error::new(Code::InvalidXml, text));
            }
            let disk = find(live, &wanted.name)?;
            disks.push(plan_disk(wanted, disk, since.as_deref(), pull, chain, now)?);
        }
        if disks.is_empty() {
            let text = "there is no disk to back up: none was asked for, or the domain has none that \
                        is written to";
            return Err(Error::new(Code::InvalidArgument, text));
        }
        Ok(Self { def, disks, reuse: false })
    }
}

fn of_target(name: &str) -> BackupDisk {
    BackupDisk {
        name: name.to_owned(),
        backup: None,
        kind: None,
        mode: None,
        incremental: None,
        export_name: None,
        export_bitmap: None,
        index: None,
        format: None,
        scratch: None,
        target: None,
    }
}

/// What a backup is made of, if nothing is said.
pub(super) fn is_kept(disk: &Disk) -> bool {
    disk.device() == DiskDevice::Disk && !disk.read_only && disk.location() != Location::Empty
}

pub(super) fn find<'a>(live: &'a DomainDef, name: &str) -> Result<&'a Disk, Error> {
    let disks = &live.devices.disks;
    let found = disks.iter().find(|disk| disk.target.dev == name);
    let found = found.ok_or_else(|| {
        let known: Vec<_> = disks.iter().map(|disk| &*disk.target.dev).collect();
        let text = format!("the domain has no disk {name:?}; it has {}", known.join(", "));
        Error::new(Code::DeviceNotFound, text)
    })?;
    if is_kept(found) {
        return Ok(found);
    }
    let text = format!("disk {name} is only read, or empty: there is nothing to back up");
    Err(Error::new(Code::InvalidArgument, text))
}

pub(super) fn alias(disk: &Disk) -> String {
    disk.alias.clone().unwrap_or_default()
}

fn plan_disk(
    wanted: &mut BackupDisk,
    disk: &Disk,
    since: Option<&str>,
    pull: bool,
    chain: &[Checkpoint],
    now: i64,
) -> Result<PlannedDisk, Error> {
    let name = wanted.name.clone();
    let since = match wanted.mode {
        Some(DiskBackupMode::Full) => None,
        Some(DiskBackupMode::Incremental) if wanted.incremental.is_none() && since.is_none() => {
            let text = format!("disk {name}: an incremental backup needs a checkpoint to begin at");
            return Err(Error::new(Code::InvalidXml, text));
        }
        _ => wanted.incremental.as_deref().or(since),
    };
    let bitmaps = match since {
        Some(since) => chain::since(chain, since, &name)?,
        None => Vec::new(),
    };
    wanted.backup = Some(YesNo::Yes);
    wanted.kind = wanted.kind.or(Some(BackupFileType::File));
    let block = wanted.kind == Some(BackupFileType::Block);
    if block && pull {
        let text = format!("disk {name}: a scratch file lies in a file system, not on a device");
        return Err(Error::new(Code::Unsupported, text));
    }
    let qcow2 = match wanted.format {
        Some(DiskFormat::Raw) => false,
        None | Some(DiskFormat::Qcow2) => true,
        Some(other) => {
            let text = format!("disk {name}: a backup's files are raw or qcow2, not {other}");
            return Err(Error::new(Code::Unsupported, text));
        }
    };
    if !pull && !qcow2 && !bitmaps.is_empty() {
        let text = format!("disk {name}: an incremental backup goes into qcow2, not raw");
        return Err(Error::new(Code::Unsupported, text));
    }
    wanted.format = Some(if qcow2 { DiskFormat::Qcow2 } else { DiskFormat::Raw });
    let given = if pull { &mut wanted.scratch } else { &mut wanted.target };
    let file = match given.as_ref().and_then(|it| it.file.clone().or_else(|| it.dev.clone())) {
        Some(path) if path.is_absolute() => path,
        Some(path) => {
            let text = format!("disk {name}: {} is no absolute path", path.display());
            return Err(Error::new(Code::InvalidXml, text));
        }
        None => beside(disk, now)?,
    };
    if given.is_none() {
        *given = Some(BackupFile { file: Some(file.clone()), dev: None });
    }
    let (export, bitmap) = match pull {
        false => (name.clone(), None),
        true => {
            let export = wanted.export_name.get_or_insert_with(|| name.clone()).clone();
            let own = || format!("backup-{name}");
            let wanted = &mut wanted.export_bitmap;
            let bitmap = (!bitmaps.is_empty()).then(|| wanted.get_or_insert_with(own).clone());
            (export, bitmap)
        }
    };
    let scratch = if pull { file.clone() } else { hidden(&file, block, disk, now)? };
    Ok(PlannedDisk {
        target: name,
        alias: alias(disk),
        since: bitmaps,
        export,
        exported_bitmap: bitmap,
        scratch,
        file,
        block,
        qcow2,
    })
}

/// As libvirt names what nobody named: the image's name, and the time.
fn beside(disk: &Disk, now: i64) -> Result<PathBuf, Error> {
    let Location::File(path) = disk.location() else {
        let text = format!(
            "disk {} is in no file that the backup's could lie beside: name a file for it",
            disk.target.dev
        );
        return Err(Error::new(Code::InvalidXml, text));
    };
    Ok(with_suffix(path, &now.to_string()))
}

/// A push has no scratch file of the user's: it lies where the target does, which has the room.
fn hidden(target: &Path, block: bool, disk: &Disk, now: i64) -> Result<PathBuf, Error> {
    if block {
        beside(disk, now).map(|it| with_suffix(&it, "scratch"))
    } else {
        Ok(with_suffix(target, "scratch"))
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> DomainDef {
        let text = "<domain type='kvm'><name>d</name><memory>65536</memory>\
            <os><type arch='x86_64' machine='q35'>hvm</type></os><devices>\
            <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>\
            <source file='/i/a.qcow2'/><target dev='vda' bus='virtio'/><alias name='virtio-disk0'/>\
            </disk><disk type='file' device='disk'><source file='/i/b'/><target dev='vdb' bus='virtio'/>\
            <readonly/></disk><disk type='block' device='disk'><source dev='/dev/sdz'/>\
            <target dev='vdc' bus='virtio'/><alias name='virtio-disk2'/></disk>\
            <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>\
            </devices></domain>";
        DomainDef::parse(text).unwrap().value
    }

    fn plan(text: &str) -> Result<Plan, Error> {
        Plan::of(BackupDef::parse(text).unwrap().value, &live(), &[], 7)
    }

    fn disks(inside: &str) -> String {
        format!("<domainbackup><disks>{inside}</disks></domainbackup>")
    }

    #[test]
    fn what_is_not_said_is_libvirts() {
        let one = plan(&disks("<disk name='vda'/><disk name='vdc' backup='no'/>")).unwrap();
        let [disk] = &one.disks[..] else { panic!("{one:?}") };
        assert_eq!((disk.alias.as_str(), disk.qcow2), ("virtio-disk0", true));
        assert_eq!(disk.file, Path::new("/i/a.qcow2.7"));
        assert_eq!(disk.scratch, Path::new("/i/a.qcow2.7.scratch"));
        let xml = one.def.to_xml();
        assert!(xml.contains("<target file='/i/a.qcow2.7'/>"), "{xml}");
        let pull = "<domainbackup mode='pull'><server transport='unix' socket='/s'/><disks>\
                    <disk name='vda'><scratch file='/x'/></disk></disks></domainbackup>";
        let pulled = plan(pull).unwrap();
        assert_eq!(
            (pulled.disks[0].export.as_str(), &pulled.disks[0].exported_bitmap),
            ("vda", &None)
        );
        assert_eq!(pulled.disks[0].scratch, Path::new("/x"));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refused = |text: &str, words: &str| {
            let error = plan(text).unwrap_err();
            assert!(error.message.contains(words), "{error}");
        };
        // Every disk that is written to, one of which lies on a device.
        refused("<domainbackup/>", "disk vdc is in no file");
        refused(&disks("<disk name='vdx'/>"), "no disk \"vdx\"; it has vda, vdb, vdc, sda");
        refused(&disks("<disk name='vdb'/>"), "only read");
        refused(&disks("<disk name='vda'/><disk name='vda'/>"), "named twice");
        refused(&disks("<disk name='vda' backup='no'/>"), "no disk to back up");
        refused(&disks("<disk name='vda'><target file='x'/></disk>"), "no absolute path");
        refused(&disks("<disk name='vda'><driver type='vmdk'/></disk>"), "raw or qcow2, not vmdk");
        refused(&disks("<disk name='vda' backupmode='incremental'/>"), "needs a checkpoint");
        refused(&disks("<disk name='vda' incremental='a'/>"), "no checkpoint \"a\"; it has none");
    }
}
