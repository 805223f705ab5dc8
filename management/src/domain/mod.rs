//! Domains as they are managed: names, states, what callers are told of them.

pub(crate) mod actor;
mod apply;
pub(crate) mod backup;
mod block_job_plan;
pub(crate) mod block_job_watch;
pub(crate) mod block_jobs;
pub(crate) mod channels;
mod clock;
mod definition;
pub(crate) mod disk_chain;
pub(crate) mod dump;
pub(crate) mod exit;
pub(crate) mod fork;
mod guest;
pub(crate) mod handle;
mod huge_pages;
pub(crate) mod images;
mod interfaces;
mod io_threads;
pub(crate) mod launch;
mod lifecycle_action;
pub(crate) mod link;
pub(crate) mod listing;
pub(crate) mod media;
pub(crate) mod memory;
mod metadata;
mod mirror;
pub(crate) mod moves;
pub(crate) mod needs;
pub(crate) mod network_disks;
pub(crate) mod plug;
mod power;
pub(crate) mod record;
mod reference;
mod relative_link;
pub(crate) mod restore;
pub(crate) mod save;
mod seed;
pub(crate) mod snapshot;
mod start;
mod state;
mod stop;
mod sys;
mod threshold;
pub(crate) mod tuning;
mod turn;
pub(crate) mod twin;
mod update;
mod view;
mod volumes;

pub use crate::agent::AgentTimeout;
pub use backup::{CheckpointView, Children};
pub use block_jobs::{BlockJobKind, BlockJobSpec, BlockJobView};
pub use broker::SecurityFact;
pub use dump::DumpMode;
pub use guest::*;
pub use handle::Variables;
pub use io_threads::IoThreadChange;
pub use lifecycle_action::{LifecycleCause, LifecycleChange, LifecycleEnd};
pub use link::Affects;
pub use media::{MediumAction, MediumSource};
pub use metadata::{ElementChange, MetadataChange, MetadataView, NewElement};
pub use reference::DomainRef;
pub use save::SaveFormat;
pub use state::{Paused, Running, ShutOff, State};
pub use tuning::{
    BlockDeviceTuning, BlockTuning, CpuTuning, DiskTuning, InterfaceTuning, MemoryTuning,
    NumaTuning, Pin, Pins, RateTuning, Sizes, Tuning,
};
pub use turn::{AtShutdown, Turn, TurnChange};
pub use view::{
    AddressRow, BalloonStats, BlockStats, DirtyRate, DiskFault, DiskRow, DiskSizes, DomainDetails,
    DomainId, DomainStats, DomainSummary, InterfaceRow, InterfaceStats, VcpuStats,
};

use xml::DomainDef;

/// Text of a VMM, which may be a guest's, on its way to people: one line, not long, nothing that a
/// terminal would obey.
pub(crate) fn clean(text: &str) -> String {
    const LONGEST: usize = 500;
    let show = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(LONGEST).map(show).collect()
}

/// A VMM's complaint with the names of the files that it is about: it knows them by descriptor only.
pub(crate) fn with_paths(complaint: &str, def: &DomainDef) -> String {
    let files = [
        ("cannot boot this kernel", "cannot boot kernel", &def.os.kernel),
        ("cannot use this initrd", "cannot use initrd", &def.os.initrd),
    ];
    let found = files.into_iter().find_map(|(nameless, named, path)| {
        let rest = complaint.strip_prefix(nameless)?;
        Some(format!("{named} {}{rest}", path.as_ref()?.display()))
    });
    found.unwrap_or_else(|| complaint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_about_a_file_names_it() {
        let text = "<domain type='kvm'><name>a</name><memory>1</memory><os><type>hvm</type>\
                    <kernel>/k</kernel></os></domain>";
        let def = DomainDef::parse(text).unwrap().value;
        let named = with_paths("cannot boot this kernel: the file is empty", &def);
        assert_eq!(named, "cannot boot kernel /k: the file is empty");
        for other in ["cannot use this initrd: too large", "no memory for this kernel"] {
            assert_eq!(with_paths(other, &def), other);
        }
    }
}
