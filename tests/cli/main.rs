//! The real binary: a daemon on a socket of its own, and the command line against it.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails loudly")]
#![allow(clippy::print_stdout, reason = "says what cannot be tested here")]

mod access;
mod backup;
mod block_jobs;
mod broker;
mod channels;
mod clients;
mod cloud_init;
mod counters;
mod crowd;
mod daemon;
mod denied;
mod display;
mod faults;
mod firewalls;
mod forged;
mod guests;
mod host;
mod images;
mod import;
mod isolation_cost;
mod lab;
mod libvirt;
mod libvirt_hosts;
mod libvirt_lists;
mod media;
mod metrics;
mod missing_devices;
mod nbd;
mod network_guests;
mod networks;
mod plan;
mod plug;
mod restarts;
mod rig;
mod rootless;
mod saved;
mod setup;
mod snapshots;
mod stolen;
mod storage;
mod terminal;
mod test_driver;
mod tuning;
mod verbs;
mod viewers;
mod virsh_commands;
