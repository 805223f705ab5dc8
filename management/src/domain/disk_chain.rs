//! The images of a disk as its definition shows them: what the guest uses, then what lies below it,
//! each below the one before.

use std::path::{Path, PathBuf};

use xml::device::disk::{
    BackingStore, Disk, DiskDriver, DiskFormat, DiskSource, DiskType, StoreFormat,
};

use crate::error::{Code, Error};

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChainNode {
    pub kind: DiskType,
    pub source: DiskSource,
    pub format: DiskFormat,
}

impl ChainNode {
    /// An image in a file or on a block device.
    pub(crate) fn new(path: &Path, format: DiskFormat, index: Option<u32>) -> Self {
        let device = path.starts_with("/dev");
        let mut source = DiskSource { index, ..DiskSource::default() };
        *if device { &mut source.dev } else { &mut source.file } = Some(path.to_owned());
        let kind = if device { DiskType::Block } else { DiskType::File };
        Self { kind, source, format }
    }

    /// Where it lies; none of what is no file.
    pub(crate) fn path(&self) -> Option<&PathBuf> {
        self.source.file.as_ref().or(self.source.dev.as_ref())
    }
}

pub(crate) fn nodes(disk: &Disk) -> Vec<ChainNode> {
    let format = disk.driver.as_ref().and_then(|driver| driver.format).unwrap_or(DiskFormat::Raw);
    let source = disk.source.clone().unwrap_or_default();
    let mut nodes = vec![ChainNode { kind: disk.kind(), source, format }];
    let mut next = disk.backing_store.as_ref();
    while let Some(BackingStore { kind: Some(kind), format, source, backing_store, .. }) = next {
        let index = next.and_then(|store| store.index);
        let source = source.clone().unwrap_or_default();
        let source = DiskSource { index: index.or(source.index), ..source };
        let format = format.map_or(DiskFormat::Raw, |format| format.kind);
        nodes.push(ChainNode { kind: *kind, source, format });
        next = backing_store.as_deref();
    }
    nodes
}

/// Have the disk be made of `nodes`, of which there is one at least.
pub(crate) fn show(disk: &mut Disk, nodes: &[ChainNode]) {
    let Some((top, below)) = nodes.split_first() else { return };
    disk.kind = Some(top.kind);
    disk.source = Some(top.source.clone());
    disk.driver.get_or_insert_with(DiskDriver::default).format = Some(top.format);
    let store = below.iter().rev().fold(BackingStore::default(), |under, node| {
        let index = node.source.index;
        BackingStore {
            kind: Some(node.kind),
            index,
            format: Some(StoreFormat { kind: node.format }),
            source: Some(DiskSource { index: None, ..node.source.clone() }),
            backing_store: Some(Box::new(under)),
        }
    });
    disk.backing_store = Some(store);
}

/// The same for a disk that is to be started: what lies below stands in the image's header.
pub(crate) fn start_with(disk: &mut Disk, nodes: &[ChainNode]) {
    let Some(top) = nodes.first() else { return };
    if self::nodes(disk).first().and_then(ChainNode::path) != top.path() {
        let source = DiskSource { index: None, ..top.source.clone() };
        show(disk, &[ChainNode { source, ..top.clone() }]);
    }
    disk.backing_store = None;
}

/// Which image `name` is: by its path, or by its number as in `vda[3]`.
pub(crate) fn find(disk: &Disk, nodes: &[ChainNode], name: &str) -> Result<usize, Error> {
    let target = &disk.target.dev;
    let number = name.strip_prefix(&**target).and_then(|rest| rest.strip_prefix('['));
    let number = number.and_then(|rest| rest.strip_suffix(']')).and_then(|it| it.parse().ok());
    let is_it = |node: &ChainNode| match number {
        Some(number) => node.source.index == Some(number),
        None => node.path().is_some_and(|path| path == Path::new(name)),
    };
    nodes.iter().position(is_it).ok_or_else(|| {
        let known: Vec<_> = nodes
            .iter()
            .map(|node| node.path().map_or("?".into(), |path| path.display().to_string()))
            .collect();
        let text = format!("disk {target} has no image {name:?}; it has {}", known.join(", "));
        Error::new(Code::InvalidArgument, text)
    })
}
