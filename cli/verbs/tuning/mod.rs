//! Verbs of what a domain gets of the host: without a change they print what is.

mod block;
mod counters;
mod cpu;
mod devices;
mod memory;
mod numa;
mod pins;
mod sizes;

use std::fmt::Display;

use api::types::{Affects, Tuning};

pub(super) use block::blkiotune;
pub(super) use counters::{domblkerror, domblkstat, domifstat};
pub(super) use cpu::schedinfo;
pub(super) use devices::{blkdeviotune, domiftune};
pub(super) use memory::memtune;
pub(super) use numa::numatune;
pub(super) use pins::{
    cpus, emulatorpin, iothreadadd, iothreaddel, iothreadinfo, iothreadpin, list, vcpuinfo, vcpupin,
};
pub(super) use sizes::{setmaxmem, setvcpu, setvcpus, vcpucount};

use super::Session;
use super::memory::scaled;
use crate::failure::Failure;

async fn get(session: &Session, domain: &str, affects: Affects) -> Result<Tuning, Failure> {
    session.of(domain, session.client.tuning(domain, asks(affects))).await
}

/// virsh tells of the stored definition when both are named.
fn asks(affects: Affects) -> Affects {
    Affects { live: affects.live && !affects.config, config: affects.config }
}

async fn set(
    session: &Session,
    domain: &str,
    change: Tuning,
    affects: Affects,
) -> Result<(), Failure> {
    session.of(domain, session.client.tune(domain, &change, affects)).await
}

/// As virsh lists parameters.
fn line(name: &str, value: impl Display) -> String {
    format!("{name:<15}: {value}\n")
}

fn bytes(text: Option<&str>, option: &str) -> Result<Option<u64>, Failure> {
    text.map(|text| scaled(text, "", option)).transpose()
}
