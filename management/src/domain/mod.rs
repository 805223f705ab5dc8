//! Domains as they are managed: names, states, what callers are told of them.

mod reference;
mod state;
mod view;

pub use reference::DomainRef;
pub use state::{Paused, Running, ShutOff, State};
pub use view::{
    BlockStats, DiskRow, DomainDetails, DomainId, DomainStats, DomainSummary, InterfaceRow,
    InterfaceStats, VcpuStats,
};
