//! Operations on domains.

mod addresses;
mod agent_timeout;
mod asking;
mod backup;
mod block_jobs;
mod clone;
mod console;
mod define;
mod device;
mod disk_size;
mod display;
mod dump;
mod guest_favours;
mod guest_filesystems;
mod guest_info;
mod guest_keys;
mod guest_sleep;
mod guest_vcpus;
mod lifecycle;
mod link;
mod media;
mod memory;
mod metadata;
mod migration;
mod peek;
mod plan;
mod query;
mod redefine;
mod saved;
mod security;
mod snapshot;
mod stats;
mod tuning;
mod vcpus;

pub use addresses::*;
pub use agent_timeout::*;
pub use asking::AskMode;
pub use backup::*;
pub use block_jobs::*;
pub use clone::*;
pub(crate) use console::consoles;
pub use console::*;
pub use define::*;
pub use device::*;
pub use disk_size::*;
pub use display::*;
pub use dump::*;
pub use guest_favours::*;
pub use guest_filesystems::*;
pub use guest_info::*;
pub use guest_keys::*;
pub use guest_sleep::*;
pub use guest_vcpus::*;
pub use lifecycle::*;
pub use link::*;
pub use media::*;
pub use memory::*;
pub use metadata::*;
pub use migration::*;
pub use peek::*;
pub use plan::*;
pub use query::*;
pub(crate) use query::{disk_source, without_secrets};
pub use redefine::*;
pub use saved::*;
pub use security::*;
pub use snapshot::*;
pub use stats::*;
pub use tuning::*;
pub use vcpus::*;

use vmm_protocol::control::{Reply, Request};

use crate::domain::actor::vmm_error;
use crate::domain::handle::View;
use crate::error::{Code, Error};
use crate::manager::Context;

/// Ask a running domain's VMM for what changes nothing that anybody else knows of.
async fn ask(view: &View, request: Request, cx: &Context) -> Result<Reply, Error> {
    let Some(vmm) = &view.vmm else {
        let text = format!("the VMM of domain {:?} does not answer", view.name);
        return Err(Error::new(Code::VmmUnreachable, text));
    };
    let answer = vmm.ask(request, cx.deadline()).await;
    answer.map_err(|error| vmm_error(&view.name, error))
}
