//! Who wants to hear that a disk's image grows beyond a place: whoever makes room for it in time.

use vmm_protocol::control::Request;

use super::actor::Actor;
use super::{clean, disk_chain};
use crate::error::Error;
use crate::events::EventKind;
use crate::journal::Origin;
use crate::storage::PoolView;
use crate::translate;

/// Between the disk and its image, in what the VMM keeps for the event.
const BETWEEN: char = '\n';

impl Actor {
    /// `name` is a disk (`vda`), or an image below (`vda[2]`); none: nobody wants to hear of it any more. The VMM
    /// keeps it, and the guest's end ends it.
    pub(super) async fn set_threshold(
        &mut self,
        name: &str,
        place: Option<u64>,
    ) -> Result<(), Error> {
        let def = translate::with_aliases(&self.running()?.live.def);
        let target = name.split_once('[').map_or(name, |(target, _)| target);
        let disk = &def.devices.disks[self.disk(&def, target)?];
        let nodes = disk_chain::nodes(disk);
        let image = match target == name {
            true => 0,
            false => disk_chain::find(disk, &nodes, name)?,
        };
        let path = nodes.get(image).and_then(|node| node.path());
        let path = path.cloned().or_else(|| {
            let pools: Vec<PoolView> = self.node.pools.views();
            crate::snapshots::place(disk, &pools).filter(|_| image == 0)
        });
        let path = path.map(|path| path.display().to_string()).unwrap_or_default();
        let index = if image == 0 { String::new() } else { name[target.len()..].to_owned() };
        let name = format!("{}{index}{BETWEEN}{path}", disk.target.dev);
        let id = disk.alias.clone().unwrap_or_default();
        let image = u16::try_from(image).unwrap_or(u16::MAX);
        self.tell(Request::SetThreshold { id, image, place, name }).await
    }

    pub(super) fn on_threshold(
        &self,
        name: &str,
        threshold: u64,
        excess: u64,
        origin: Option<Origin>,
    ) {
        let (disk, path) = name.split_once(BETWEEN).unwrap_or((name, ""));
        let path = Some(clean(path)).filter(|path| !path.is_empty());
        let kind = EventKind::BlockThreshold { disk: clean(disk), path, threshold, excess };
        self.announce(kind, origin);
    }
}
