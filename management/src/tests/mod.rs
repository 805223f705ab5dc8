//! The whole manager with real processes in place of VMMs.

mod access;
mod agent;
mod cloud_init;
mod crash;
pub(crate) mod fake_agent;
mod fake_vmm;
mod foreground;
mod images;
mod lifecycle;
mod link;
mod media;
mod memory;
mod mistakes;
mod networks;
mod plan;
mod plug;
mod pools;
mod restart;
mod rig;
mod storage;
mod storage_crash;
mod storm;
mod stuck;
mod sys;
mod tuning;
mod variables;
mod vcpus;
