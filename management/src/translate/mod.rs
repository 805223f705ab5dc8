//! Definition to machine: the only place that knows both libvirt's XML and the VMM's
//! configuration.
//!
//! ```text
//! text ─parse→ DomainDef ─check→ honoured, or refused by name ─assign→ stored definition
//!      stored definition + open resources ─machine→ MachineConfig
//!      stored definition + open resources ─live→ what dumpxml shows of a running domain
//! ```

mod address;
mod alias;
pub(crate) mod bandwidth;
mod boot_order;
pub(crate) mod check;
mod check_cpu;
mod check_devices;
mod check_display;
mod check_small;
mod check_user;
pub(crate) mod clock;
pub(crate) mod device;
mod device_key;
pub(crate) mod disk_errors;
pub(crate) mod disk_limits;
pub(crate) mod display;
mod drives;
mod firmware;
pub(crate) mod formats;
mod hyperv;
mod identity;
mod io_threads;
mod live;
pub(crate) mod machine;
mod machine_cpu;
pub(crate) mod machine_devices;
pub(crate) mod machine_small;
pub(crate) mod migratable;
pub(crate) mod nbd;
mod numa;
pub(crate) mod ports;
mod report;
mod seed;
mod sysinfo;
#[cfg(test)]
mod tests;
pub(crate) mod tuning;
pub(crate) mod user;
pub(crate) mod vlan;

use std::path::PathBuf;

use uuid::Uuid;
use vmm_protocol::config::{Chardev, Fd, Image, Machine};
use xml::DomainDef;
use xml::device::Console;
use xml::device::chardev::ConsoleTargetType;
use xml::device::disk::DiskFormat;
use xml::domain::{DomainType, Name};

pub(crate) use boot_order::of_interface as boot_order_of_interface;
pub(crate) use firmware::{Host, variables};
pub(crate) use identity::{NewIds, count_identities};
pub(crate) use live::{last_index, live, with_aliases};
pub(crate) use machine::{Start, lifecycle, machine};
pub(crate) use report::invalid;
pub(crate) use seed::names as names_file;
pub(crate) use sysinfo::files as fw_cfg_files;

use crate::error::{Code, Error, Problem};
use crate::host::Driver;
use report::Report;

/// Version of the platform that new definitions are pinned to.
pub(crate) const PLATFORM: u16 = 1;

/// A definition complete and checked: what is stored, and what starts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checked {
    pub def: DomainDef,
    pub warnings: Vec<Problem>,
}

/// Read a definition, check that a machine can be built from it, and fill in what it leaves open.
/// Looks through the host's firmware where the definition asks for some; that blocks, shortly.
pub(crate) fn define(
    text: &str,
    ids: &mut dyn xml::Identity,
    host: &Host,
) -> Result<Checked, Error> {
    let parsed = DomainDef::parse_bytes(text.as_bytes()).map_err(invalid)?;
    let mut def = parsed.value;
    let mut report = Report::new(&parsed.source);
    check::check(&def, &mut report);
    if def.kind == DomainType::Test && host.driver != Driver::Test {
        let text =
            "domains of type 'test', which are for 'manor daemon --driver test'; use type='kvm'";
        report.refuse("/domain/@type", text);
    }
    // The check looked at what was written; addresses are given to what libvirt adds too.
    let written = parsed.warnings;
    if report.is_refused() {
        return Err(report.into_error(written));
    }
    def.uuid = def.uuid.or_else(|| sysinfo::uuid(&def));
    if let Some(dir) = &host.seeds {
        // By the UUID, as the variables of firmware are.
        let uuid = *def.uuid.get_or_insert_with(|| ids.uuid());
        seed::attach(&mut def, &dir.join(crate::cloud_init::file_name(uuid)), &mut report);
    }
    def.fill_defaults(ids);
    if let Some(genid) = &mut def.genid {
        genid.id.get_or_insert_with(|| ids.uuid());
    }
    firmware::complete(&mut def, host, &mut report);
    drives::check_places(&def, &mut report);
    address::assign(&mut def, &mut report);
    if report.is_refused() {
        return Err(report.into_error(written));
    }
    Ok(Checked { def, warnings: report.into_warnings(written) })
}

/// Which domain a document says that it is of, without a look at the rest of it; none if it is no
/// definition at all.
pub(crate) fn named(text: &str) -> Option<(Option<Uuid>, String)> {
    let def = DomainDef::parse_bytes(text.as_bytes()).ok()?.value;
    Some((def.uuid.or_else(|| sysinfo::uuid(&def)), def.name.to_string()))
}

/// Read a definition that was stored: complete already, and to come back as it was.
pub(crate) fn stored(text: &str) -> Result<DomainDef, Error> {
    let parsed = DomainDef::parse_stored(text).map_err(invalid)?;
    Ok(parsed.value)
}

/// A running domain's definition as one that could be stored: without what is of this run alone.
pub(crate) fn as_defined(live: &DomainDef) -> DomainDef {
    let mut def = live.clone();
    for source in def.devices.interfaces.iter_mut().filter_map(|it| it.source.as_mut()) {
        // The network's, which has perhaps another one tomorrow.
        if source.network.is_some() {
            source.bridge = None;
        }
    }
    for source in def.devices.disks.iter_mut().filter_map(|it| it.source.as_mut()) {
        source.index = None;
    }
    def.fill_defaults(&mut NewIds);
    def
}

/// Which board a machine type means. Versions of QEMU's types are pinned to a version of ours.
pub(crate) fn board(machine: &str) -> Option<Machine> {
    match machine {
        "q35" => Some(Machine::Q35),
        "pc" => Some(Machine::Pc),
        "microvm" => Some(Machine::Microvm),
        _ if machine.starts_with("pc-q35-") => Some(Machine::Q35),
        _ if machine.starts_with("pc-i440fx-") => Some(Machine::Pc),
        _ => None,
    }
}

pub(crate) fn board_of(def: &DomainDef) -> Machine {
    def.os.kind.machine.as_deref().and_then(board).unwrap_or(Machine::Q35)
}

/// The host's end of a guest's sockets, and the guest's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenVsock {
    pub end: VsockEnd,
    pub cid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VsockEnd {
    Kernel(Fd),
    Socket(Fd),
}

/// What was opened for a start, in the order of the definition's devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    pub vsock: Option<OpenVsock>,
    pub kernel: Option<Fd>,
    pub initrd: Option<Fd>,
    pub firmware: Option<Fd>,
    /// Of the firmware.
    pub variables: Option<Fd>,
    /// The files of [`fw_cfg_files`].
    pub fw_cfg: Vec<Fd>,
    /// None: a drive without a medium.
    pub disks: Vec<Option<OpenDisk>>,
    pub interfaces: Vec<OpenTap>,
    pub serials: Vec<OpenChardev>,
    /// The first stands for the first serial port, if it is one, and has nothing of its own.
    pub consoles: Vec<OpenChardev>,
    pub channels: Vec<OpenChardev>,
    /// The BIOS of the graphics card.
    pub video_rom: Option<Fd>,
    pub vnc: display::OpenVnc,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenDisk {
    pub image: Image,
    /// Shown in the live definition.
    pub below: Vec<Below>,
}

/// An image below a disk's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Below {
    pub path: PathBuf,
    pub format: DiskFormat,
}

impl OpenDisk {
    pub(crate) fn raw(file: Fd) -> Self {
        Self { image: Image::Raw { file }, below: Vec::new() }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OpenTap {
    /// Empty with `stream`: it is no interface of the host.
    pub name: String,
    /// A connection to the process that is the network, in place of queues.
    pub stream: Option<Fd>,
    /// Which it is in.
    pub bridge: Option<String>,
    pub queues: Vec<Fd>,
    /// Of the host's kernel, one for each queue that it serves: all or none.
    pub vhost: Vec<Fd>,
    /// By which firmware boots from this network.
    pub rom: Option<Fd>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OpenChardev {
    pub config: Chardev,
    /// Shown in the live definition: the pty, or the socket.
    pub path: Option<PathBuf>,
}

/// A name a domain can have.
pub(crate) fn check_name(name: &str) -> Result<Name, Error> {
    name.parse().map_err(|error| {
        Error::new(Code::InvalidArgument, format!("{name:?} cannot name a domain: {error}"))
    })
}

pub(crate) fn rename(def: &mut DomainDef, name: &str) -> Result<(), Error> {
    def.name = check_name(name)?;
    Ok(())
}

/// A console on a port of a virtio-serial controller.
pub(crate) fn is_virtio(console: &Console) -> bool {
    let target = console.target.as_ref().and_then(|target| target.kind);
    target == Some(ConsoleTargetType::Virtio)
}
