//! The virtual machine monitor: a [`MachineConfig`](vmm_protocol::config::MachineConfig), plain
//! data, becomes a live [`machine::Machine`] on KVM, in a [`process`] of its own.

pub mod announcements;
pub mod backups;
mod block_jobs;
pub mod build;
mod console;
mod faults;
mod firmware;
pub mod host_check;
pub mod isolation;
pub mod kvm;
pub mod machine;
mod notices;
pub mod process;
pub mod sandbox;
pub mod state;
pub mod vcpu;
