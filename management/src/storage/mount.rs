//! What a pool's directory lies on, where that is mounted with the pool.

use broker::{MountSource, PoolAct};
use xml::PoolDef;
use xml::storage::PoolType;

use super::pool::State;
use crate::error::Error;

/// None: it is simply there.
pub(super) fn source(def: &PoolDef) -> Option<MountSource> {
    let source = def.source.as_ref()?;
    match def.kind {
        PoolType::Fs => {
            let format = source.format.as_ref().map(|format| format.kind.as_str());
            let format = match format {
                None | Some("auto") => None,
                Some("hfs+") => Some("hfsplus"),
                other => other,
            };
            Some(MountSource::Device {
                device: source.devices.first()?.path.clone(),
                format: format.map(str::to_owned),
            })
        }
        PoolType::NetFs => Some(MountSource::Nfs {
            host: source.host.as_ref()?.name.clone(),
            dir: source.dir.as_ref()?.path.clone(),
        }),
        _ => None,
    }
}

impl State {
    pub(super) fn mount(&self) -> Result<(), Error> {
        let Some(source) = source(&self.def) else { return Ok(()) };
        Ok(self.shared.broker.pool(self.dir(), PoolAct::Mount(source))?)
    }

    pub(super) fn unmount(&self) -> Result<(), Error> {
        let Some(source) = source(&self.def) else { return Ok(()) };
        Ok(self.shared.broker.pool(self.dir(), PoolAct::Unmount(source))?)
    }
}
