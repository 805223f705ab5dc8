//! KVM behind types whose use cannot go wrong: the virtual machine, its memslots, interrupts,
//! doorbells, and the virtual CPUs.
//!
//! The `/dev/kvm` descriptor is handed in; nothing here opens a path.
#![allow(
    unsafe_code,
    reason = "memslots, the shared run page and extended register areas are raw kernel interfaces"
)]

mod capabilities;
mod chips;
mod coalesced;
mod doorbell;
mod exit;
mod hyperv;
mod line;
mod msi;
mod routes;
mod signal;
mod timing;
mod vcpu;
mod vcpu_state;
mod vm;
mod window;

pub use chips::{ChipsState, Nanoseconds};
pub use coalesced::{Coalesced, Zone};
pub use exit::{Exit, InternalError};
pub use line::Lines;
pub use msi::Messages;
pub use signal::{Kicker, install_kick_handler, kick_signal, thread_id};
pub use vcpu::{Entry, Vcpu};
pub use vcpu_state::VcpuState;
pub use vm::Vm;

/// Why KVM could not do what the machine needs.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    #[error("the descriptor given as /dev/kvm is not KVM")]
    NotKvm { source: kvm_ioctls::Error },
    #[error("KVM API version is {found}, only 12 is known")]
    ApiVersion { found: i32 },
    #[error("this host's KVM lacks {capability}, which Manor needs: {purpose}")]
    Missing { capability: &'static str, purpose: &'static str },
    #[error("this host's KVM allows {limit} vCPUs for one guest, {wanted} are configured")]
    TooManyVcpus { wanted: usize, limit: usize },
    #[error("KVM cannot {action}")]
    Ioctl { action: &'static str, source: kvm_ioctls::Error },
    #[error("cannot map the run page of a vCPU")]
    RunPage { source: std::io::Error },
    #[error("KVM took {taken} of {given} MSRs: it refused MSR {refused:#x}")]
    Msr { taken: usize, given: usize, refused: u32 },
    #[error("saved {what} state does not fit this host")]
    State { what: &'static str },
}

/// Name the action that an ioctl was for.
fn failed(action: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |source| KvmError::Ioctl { action, source }
}
