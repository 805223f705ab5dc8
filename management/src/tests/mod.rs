//! The whole manager with real processes in place of VMMs.

mod crash;
mod fake_vmm;
mod foreground;
mod images;
mod lifecycle;
mod link;
mod memory;
mod mistakes;
mod restart;
mod rig;
mod storm;
mod stuck;
mod sys;
mod variables;
