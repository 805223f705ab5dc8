//! What becomes of each disk of a domain in a new snapshot, by libvirt's rules.

use std::path::{Path, PathBuf};

use xml::DomainDef;
use xml::device::disk::{Disk, DiskDevice, DiskFormat, Location, SnapshotMode};
use xml::snapshot::{SnapshotDef, SnapshotDisk, SnapshotDiskSource, SnapshotDriver};

use super::next_name;
use crate::error::{Code, Error};
use crate::storage::PoolView;

/// How a snapshot is to be made, beyond what it says itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// Where nothing else is said.
    pub usual: SnapshotMode,
    /// Of a guest that runs, whose disks and memory must be of one moment.
    pub with_memory: bool,
}

/// A disk that takes part.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Aligned {
    /// Where it stands in the definition.
    pub at: usize,
    pub target: String,
    pub image: PathBuf,
    pub format: DiskFormat,
    /// Of an external one: where the disk goes on. None: it is internal.
    pub overlay: Option<PathBuf>,
}

/// Where the image of a disk lies, if that is a file, a block device or a volume.
pub(crate) fn place(disk: &Disk, pools: &[PoolView]) -> Option<PathBuf> {
    match disk.location() {
        Location::File(path) | Location::Block(path) => Some(path.to_owned()),
        Location::Volume { pool, volume } => {
            let pool = pools.iter().find(|known| known.name == pool)?;
            Some(pool.path.join(volume))
        }
        _ => None,
    }
}

/// Complete the disks of `snapshot`, and say which take part.
pub(crate) fn align(
    snapshot: &mut SnapshotDef,
    domain: &DomainDef,
    pools: &[PoolView],
    request: Request,
) -> Result<Vec<Aligned>, Error> {
    let wanted = snapshot.disks.take().unwrap_or_default().disks;
    for disk in &wanted {
        if !domain.devices.disks.iter().any(|known| is_named(known, &disk.name)) {
            let known: Vec<_> =
                domain.devices.disks.iter().map(|disk| disk.target.dev.as_str()).collect();
            let text = format!("there is no disk {:?}; there are {}", disk.name, known.join(", "));
            return Err(Error::new(Code::InvalidArgument, text));
        }
    }
    let mut taking_part = Vec::new();
    let mut told = Vec::new();
    for (at, disk) in domain.devices.disks.iter().enumerate() {
        let words = wanted.iter().find(|wanted| is_named(disk, &wanted.name));
        let mode = mode_of(disk, words, request.usual);
        let mut row = SnapshotDisk {
            name: disk.target.dev.clone(),
            snapshot: Some(mode),
            kind: None,
            driver: None,
            source: None,
        };
        if mode != SnapshotMode::No {
            let aligned = take_part(at, disk, words, mode, pools, snapshot.name())?;
            if let Some(overlay) = &aligned.overlay {
                row.kind = Some(xml::device::disk::DiskType::File);
                row.driver = Some(SnapshotDriver { format: Some(DiskFormat::Qcow2) });
                row.source = Some(SnapshotDiskSource { file: Some(overlay.clone()), dev: None });
            }
            taking_part.push(aligned);
        }
        told.push(row);
    }
    let overlays: Vec<_> = taking_part.iter().filter_map(|disk| disk.overlay.as_ref()).collect();
    if let Some((_, twice)) =
        overlays.iter().enumerate().find(|(at, path)| overlays[..*at].contains(path))
    {
        let text = format!("two disks cannot both go on in {}", twice.display());
        return Err(Error::new(Code::InvalidArgument, text));
    }
    if taking_part.is_empty() && !request.with_memory {
        let text = "no disk takes part in this snapshot: it would hold nothing";
        return Err(Error::new(Code::InvalidArgument, text));
    }
    if !told.is_empty() {
        snapshot.disks = Some(xml::snapshot::SnapshotDisks { disks: told });
    }
    Ok(taking_part)
}

/// By its target, or by its image.
fn is_named(disk: &Disk, name: &str) -> bool {
    let image = match disk.location() {
        Location::File(path) | Location::Block(path) => Some(path),
        _ => None,
    };
    disk.target.dev == name || image == Some(Path::new(name))
}

fn mode_of(disk: &Disk, words: Option<&SnapshotDisk>, usual: SnapshotMode) -> SnapshotMode {
    if let Some(mode) = words.and_then(SnapshotDisk::mode) {
        return mode;
    }
    let changes =
        disk.device() == DiskDevice::Disk && !disk.read_only && disk.location() != Location::Empty;
    disk.snapshot.unwrap_or(if changes { usual } else { SnapshotMode::No })
}

fn take_part(
    at: usize,
    disk: &Disk,
    words: Option<&SnapshotDisk>,
    mode: SnapshotMode,
    pools: &[PoolView],
    name: &str,
) -> Result<Aligned, Error> {
    let target = disk.target.dev.clone();
    let refuse = |why: String| {
        let text = format!("disk {target}: {why}; leave it out (--diskspec {target},snapshot=no)");
        Error::new(Code::Unsupported, text)
    };
    if disk.device() != DiskDevice::Disk || disk.location() == Location::Empty {
        return Err(refuse(format!("a {} does not take part in a snapshot", disk.device())));
    }
    if disk.shareable {
        return Err(refuse("other guests write to it, too".to_owned()));
    }
    let image = place(disk, pools).ok_or_else(|| {
        refuse("it is neither a file, a block device nor a volume of an active pool".to_owned())
    })?;
    let format = disk.driver.as_ref().and_then(|driver| driver.format).unwrap_or(DiskFormat::Raw);
    let overlay = match mode {
        SnapshotMode::Internal => {
            if format != DiskFormat::Qcow2 {
                return Err(refuse(format!(
                    "an image of format {format} holds no internal snapshots; make an external one \
                     (--disk-only, or --memspec file=…)"
                )));
            }
            None
        }
        SnapshotMode::External => Some(overlay(disk, words, &image, name, &refuse)?),
        SnapshotMode::Manual | SnapshotMode::No => {
            return Err(refuse(
                "somebody else's snapshot of its storage (manual) is not waited for".to_owned(),
            ));
        }
    };
    Ok(Aligned { at, target: target.clone(), image, format, overlay })
}

/// Where the disk goes on.
fn overlay(
    disk: &Disk,
    words: Option<&SnapshotDisk>,
    image: &Path,
    name: &str,
    refuse: &impl Fn(String) -> Error,
) -> Result<PathBuf, Error> {
    let format = words.and_then(|words| words.driver).and_then(|driver| driver.format);
    if let Some(format) = format.filter(|format| *format != DiskFormat::Qcow2) {
        return Err(refuse(format!("an overlay is of format qcow2, not {format}")));
    }
    let source = words.and_then(|words| words.source.as_ref());
    if source.is_some_and(|source| source.dev.is_some()) {
        return Err(refuse("an overlay is a file here, no block device".to_owned()));
    }
    if let Some(path) = source.and_then(|source| source.file.clone()) {
        return Ok(path);
    }
    if matches!(disk.location(), Location::Block(_)) {
        let dev = &disk.target.dev;
        return Err(refuse(format!(
            "beside a block device there is no place for an overlay; name one \
             (--diskspec {dev},file=…)"
        )));
    }
    Ok(next_name(image, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISKS: &str = "<disk type='file'><driver type='qcow2'/><source file='/d/web.qcow2'/>\
        <target dev='vda'/></disk>\
        <disk type='file'><source file='/d/data'/><target dev='vdb'/></disk>\
        <disk type='file' device='cdrom'><source file='/d/a.iso'/><target dev='sda'/></disk>\
        <disk type='network'><source protocol='nbd' name='x'><host name='h'/></source>\
        <target dev='vdc'/></disk>";

    fn domain() -> DomainDef {
        let text = format!(
            "<domain type='kvm'><name>web</name><memory>65536</memory><os><type>hvm</type></os>\
             <devices>{DISKS}</devices></domain>"
        );
        DomainDef::parse(&text).unwrap().value
    }

    fn aligned(inside: &str, usual: SnapshotMode) -> Result<(SnapshotDef, Vec<Aligned>), Error> {
        let text = format!("<domainsnapshot><name>s1</name>{inside}</domainsnapshot>");
        let mut def = SnapshotDef::parse(&text).unwrap().value;
        let request = Request { usual, with_memory: false };
        let disks = align(&mut def, &domain(), &[], request)?;
        Ok((def, disks))
    }

    fn without(targets: &[&str]) -> String {
        let row = |name: &&str| format!("<disk name='{name}' snapshot='no'/>");
        format!("<disks>{}</disks>", targets.iter().map(row).collect::<String>())
    }

    #[test]
    fn overlays_lie_beside_the_images_and_bear_the_snapshots_name() {
        let (def, disks) = aligned(&without(&["vdc"]), SnapshotMode::External).unwrap();
        let overlays: Vec<_> = disks.iter().filter_map(|disk| disk.overlay.as_deref()).collect();
        assert_eq!(overlays, [Path::new("/d/web.s1"), Path::new("/d/data.s1")]);
        assert_eq!(disks[0].format, DiskFormat::Qcow2);
        let modes = def.disks().iter().filter_map(SnapshotDisk::mode);
        let modes: Vec<_> = modes.map(SnapshotMode::name).collect();
        assert_eq!(modes, ["external", "external", "no", "no"]);
    }

    #[test]
    fn a_disk_is_named_by_its_target_or_its_image_and_may_go_on_elsewhere() {
        let inside = "<disks><disk name='/d/data'><source file='/e/new'/></disk>\
            <disk name='vda' snapshot='no'/><disk name='vdc' snapshot='no'/></disks>";
        let (_, disks) = aligned(inside, SnapshotMode::External).unwrap();
        assert_eq!(disks.len(), 1);
        assert_eq!(disks[0].overlay.as_deref(), Some(Path::new("/e/new")));
    }

    #[test]
    fn what_cannot_be_is_refused_by_the_disks_name() {
        let refused = |inside: &str, usual| aligned(inside, usual).unwrap_err().message;
        let cases = [
            ("", SnapshotMode::External, "disk vdc: it is neither"),
            (&without(&["vdc"]), SnapshotMode::Internal, "disk vdb: an image of format raw"),
            (&without(&["vda", "vdb", "vdc"]), SnapshotMode::External, "would hold nothing"),
            ("<disks><disk name='vdx'/></disks>", SnapshotMode::External, "no disk \"vdx\""),
            ("<disks><disk name='sda' snapshot='external'/></disks>", SnapshotMode::No, "a cdrom"),
            ("<disks><disk name='vda' snapshot='manual'/></disks>", SnapshotMode::No, "manual"),
            (
                "<disks><disk name='vda'><source file='/x'/></disk>\
                 <disk name='vdb'><source file='/x'/></disk></disks>",
                SnapshotMode::No,
                "two disks",
            ),
        ];
        for (inside, usual, complaint) in cases {
            let found = refused(inside, usual);
            assert!(found.contains(complaint), "{inside}: {found}");
        }
    }
}
