//! Which running domain uses a volume.

use std::path::Path;

use xml::DomainDef;
use xml::device::disk::{BackingStore, Disk, Location};

use crate::error::{Code, Error};
use crate::registry::Node;
use crate::storage::VolumeView;

impl Node {
    /// Put the domain's name into the refusal of a volume that is in use.
    pub(crate) fn in_use(&self, error: Error, volume: &VolumeView) -> Error {
        if error.code != Code::Locked {
            return error;
        }
        let Some(domain) = self.user_of(volume) else { return error };
        let text = format!("volume {:?} is in use by domain {domain:?}", volume.name);
        Error::new(Code::Locked, text).with_source(error)
    }

    fn user_of(&self, volume: &VolumeView) -> Option<String> {
        self.all().into_iter().find_map(|handle| {
            let view = handle.view();
            let live = view.live.as_ref()?;
            uses(&live.def, volume).then(|| view.name.clone())
        })
    }
}

fn uses(def: &DomainDef, volume: &VolumeView) -> bool {
    def.devices.disks.iter().any(|disk| {
        is(disk, volume)
            || disk.backing_store.as_ref().is_some_and(|store| lies_in(store, &volume.path))
    })
}

fn is(disk: &Disk, volume: &VolumeView) -> bool {
    match disk.location() {
        Location::File(path) | Location::Block(path) => path == volume.path,
        Location::Volume { pool, volume: name } => pool == volume.pool && name == volume.name,
        _ => false,
    }
}

fn lies_in(store: &BackingStore, path: &Path) -> bool {
    let source = store.source.as_ref();
    let file = source.and_then(|source| source.file.as_deref().or(source.dev.as_deref()));
    file == Some(path) || store.backing_store.as_ref().is_some_and(|below| lies_in(below, path))
}
