//! Memory of a guest: how much it is left with, and how often it is asked for its statistics.

use vmm_protocol::control::Request;
use xml::DomainDef;
use xml::domain::Kib;

use super::actor::Actor;
use super::link::Affects;
use crate::error::{Code, Error};
use crate::events::Lifecycle;
use crate::translate::machine_small::has_balloon;

/// What of a guest's memory can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemoryChange {
    /// It shall live with so much.
    Current(Kib),
    /// Its statistics are read every so many seconds; 0: not at all.
    StatisticsPeriod(u32),
}

impl MemoryChange {
    fn check(self, def: &DomainDef) -> Result<(), Error> {
        let invalid = |text: String| Err(Error::new(Code::InvalidArgument, text));
        match self {
            Self::Current(Kib(0)) => invalid("a guest needs memory".to_owned()),
            Self::Current(kib) if kib > def.memory.size => invalid(format!(
                "cannot set memory to {} KiB: the domain's maximum is {} KiB",
                kib.0, def.memory.size.0
            )),
            _ if !has_balloon(def) => {
                let text = "the domain has no memory balloon (<memballoon model='virtio'/>)";
                Err(Error::new(Code::InvalidState, text))
            }
            _ => Ok(()),
        }
    }

    fn apply(self, def: &mut DomainDef) {
        match self {
            Self::Current(kib) => def.current_memory = Some(kib),
            Self::StatisticsPeriod(seconds) => {
                if let Some(balloon) = &mut def.devices.mem_balloon {
                    balloon.stats_period = (seconds > 0).then_some(seconds);
                }
            }
        }
    }

    fn request(self) -> Request {
        match self {
            Self::Current(kib) => Request::SetMemory { bytes: kib.bytes() },
            Self::StatisticsPeriod(seconds) => Request::SetStatisticsPeriod { seconds },
        }
    }
}

impl Actor {
    pub(super) async fn change_memory(
        &mut self,
        change: MemoryChange,
        affects: Affects,
    ) -> Result<(), Error> {
        let live = affects.live || (!affects.config && self.run.is_some());
        let config = affects.config || !live;
        // All is found good before anything is changed.
        if live {
            change.check(&self.running()?.live.def)?;
        }
        let edit = |def: &mut DomainDef| {
            change.check(def)?;
            change.apply(def);
            Ok(())
        };
        let stored = if config { self.stored_changed(edit)? } else { None };
        if live {
            self.tell(change.request()).await?;
            self.change_live(|def| change.apply(def)).await;
        }
        if let Some((stored, def)) = stored {
            self.put(stored, def).await?;
            self.announce_lifecycle(Lifecycle::DefinedUpdated, None, None);
        }
        Ok(())
    }
}
