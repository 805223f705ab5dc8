//! [`ControlWorker`]: the commands of the control queue (virtio 1.2 §5.1.6.5).
//!
//! A command must fit its length exactly; what does not is refused and changes nothing.

use std::sync::Arc;

use super::filter::{Filter, Mac, TABLE};
use super::offloads;
use super::shared::Shared;
use super::spec::{CONTROL_ERROR, CONTROL_OK, command, feature};
use crate::backend::packet::PacketBackend;
use crate::limit::warn_limited;
use crate::virtio::{ActiveQueue, Chain, Context, QueueWorker};

pub(super) struct ControlWorker {
    pub(super) shared: Arc<Shared>,
    pub(super) backends: Vec<Arc<dyn PacketBackend>>,
    pub(super) features: u64,
}

/// A command that is unknown, of a wrong length, or out of range.
#[derive(Debug, PartialEq, Eq)]
struct Refused;

impl QueueWorker for ControlWorker {
    fn kicked(&mut self, _position: usize, cx: &mut Context<'_, '_>) {
        for queue in cx.queues.iter_mut() {
            while let Some(chain) = queue.next() {
                self.serve(chain, queue);
            }
        }
    }
}

impl ControlWorker {
    fn serve(&self, mut chain: Chain, queue: &mut ActiveQueue) {
        let Some(status) = chain.split_status() else {
            return queue.fail(chain, "a control command has no room for its status");
        };
        let done = self.command(&mut chain);
        status.set(queue.ram(), if done.is_ok() { CONTROL_OK } else { CONTROL_ERROR });
        queue.complete(chain, 1);
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    fn command(&self, chain: &mut Chain) -> Result<(), Refused> {
        match (read::<u8>(chain)?, read::<u8>(chain)?) {
            (command::RX, which) if self.has(feature::CTRL_RX) => self.receive_mode(which, chain),
            (command::MAC, 0) if self.has(feature::CTRL_RX) => self.set_tables(chain),
            (command::MAC, 1) if self.has(feature::CTRL_MAC_ADDR) => {
                self.shared.choose(read_last(chain)?);
                Ok(())
            }
            (command::ANNOUNCE, 0) if self.has(feature::GUEST_ANNOUNCE) => {
                end(chain)?;
                self.shared.change(|state| state.announce = false);
                Ok(())
            }
            (command::MQ, 0) if self.has(feature::MQ) => self.set_pairs(read_last(chain)?),
            (command::GUEST_OFFLOADS, 0) if self.has(feature::CTRL_GUEST_OFFLOADS) => {
                self.set_offloads(read_last(chain)?)
            }
            _ => Err(Refused),
        }
    }

    fn receive_mode(&self, which: u8, chain: &mut Chain) -> Result<(), Refused> {
        let on = read_last::<u8>(chain)? != 0;
        let field: fn(&mut Filter) -> &mut bool = match which {
            0 => |filter| &mut filter.promiscuous,
            1 => |filter| &mut filter.all_multicast,
            2 => |filter| &mut filter.all_unicast,
            3 => |filter| &mut filter.no_multicast,
            4 => |filter| &mut filter.no_unicast,
            5 => |filter| &mut filter.no_broadcast,
            _ => return Err(Refused),
        };
        if which >= 2 && !self.has(feature::CTRL_RX_EXTRA) {
            return Err(Refused);
        }
        self.shared.change(|state| *field(&mut state.filter) = on);
        Ok(())
    }

    fn set_tables(&self, chain: &mut Chain) -> Result<(), Refused> {
        let unicast = read_table(chain)?;
        let multicast = read_table(chain)?;
        end(chain)?;
        self.shared.change(|state| {
            state.filter.unicast = unicast;
            state.filter.multicast = multicast;
        });
        Ok(())
    }

    fn set_pairs(&self, pairs: u16) -> Result<(), Refused> {
        if !(1..=self.backends.len()).contains(&usize::from(pairs)) {
            return Err(Refused);
        }
        set_enabled(&self.backends, pairs)?;
        self.shared.change(|state| state.pairs = pairs);
        Ok(())
    }

    fn set_offloads(&self, wanted: u64) -> Result<(), Refused> {
        if wanted & !(self.features & feature::GUEST_OFFLOADS) != 0 {
            return Err(Refused);
        }
        for backend in &self.backends {
            backend.set_offloads(offloads(wanted)).map_err(refused)?;
        }
        self.shared.change(|state| state.offloads = Some(wanted));
        Ok(())
    }
}

/// Let the first `pairs` queues take part.
pub(super) fn set_enabled(
    backends: &[Arc<dyn PacketBackend>],
    pairs: u16,
) -> Result<(), std::io::Error> {
    // First all that go on, so that there is one at any time.
    let (on, off) = backends.split_at(usize::from(pairs).min(backends.len()));
    on.iter().try_for_each(|backend| backend.set_enabled(true))?;
    off.iter().try_for_each(|backend| backend.set_enabled(false))
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        refused(error)
    }
}

fn refused(error: std::io::Error) -> Refused {
    warn_limited!(%error, "the host refused a network setting of the guest");
    Refused
}

fn read<T: vm_memory::ByteValued>(chain: &mut Chain) -> Result<T, Refused> {
    chain.read_obj().ok_or(Refused)
}

fn end(chain: &Chain) -> Result<(), Refused> {
    if chain.readable_len() == 0 { Ok(()) } else { Err(Refused) }
}

/// A value that nothing follows.
fn read_last<T: vm_memory::ByteValued>(chain: &mut Chain) -> Result<T, Refused> {
    let value = read(chain)?;
    end(chain)?;
    Ok(value)
}

/// A count and as many addresses. More than fit are skipped: all pass then.
fn read_table(chain: &mut Chain) -> Result<Option<Vec<Mac>>, Refused> {
    let count = u32::from_le(read(chain)?);
    let len = count.checked_mul(6).filter(|len| *len <= chain.readable_len()).ok_or(Refused)?;
    if count as usize > TABLE {
        return if chain.skip(len) { Ok(None) } else { Err(Refused) };
    }
    (0..count).map(|_| read(chain)).collect::<Result<_, _>>().map(Some)
}
