//! What a guest tells of itself through its agent. Asking makes the guest work, so looking alone is
//! not enough for it, as in libvirt.

use std::net::IpAddr;

use serde::de::DeserializeOwned;
use xml::DomainDef;

use crate::agent::replies::{self, MOST_ROWS, maybe, word};
use crate::agent::{Agent, AgentError, Ask, disks};
use crate::auth::{Access, Subject};
use crate::domain::{
    AddressRow, DomainRef, GuestDisk, GuestFilesystem, GuestFilesystemDisk, GuestInfo,
    GuestInterface, GuestOs, GuestParts, GuestTimezone, GuestUser,
};
use crate::error::Error;
use crate::manager::{Context, Operation};

/// Ask a guest about itself (virDomainGetGuestInfo). What an older agent does not know is left out,
/// unless it was asked for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetGuestInfo {
    pub domain: DomainRef,
    /// None: all that the agent knows.
    pub parts: Option<GuestParts>,
}

impl Operation for GetGuestInfo {
    type Output = GuestInfo;
    const NAME: &'static str = "domain.guest-info";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<GuestInfo, Error> {
        let handle = cx.find(&self.domain)?;
        let agent = Agent::meet(&handle).await?;
        let view = handle.view();
        let wanted = self.parts.unwrap_or(GuestParts::ALL);
        let mut questions = Questions { agent, must: self.parts.is_some() };
        let mut info = GuestInfo::default();
        if wanted.users {
            info.users = questions.put("guest-get-users").await?.map(users);
        }
        if wanted.os {
            info.os = questions.put("guest-get-osinfo").await?.map(os);
        }
        if wanted.timezone {
            info.timezone = questions.put("guest-get-timezone").await?.map(timezone);
        }
        if wanted.hostname {
            let name = questions.put::<replies::HostName>("guest-get-host-name").await?;
            info.hostname = name.map(|name| word(&name.host_name));
        }
        if wanted.filesystems {
            let found = questions.put("guest-get-fsinfo").await?;
            info.filesystems = found.map(|found| filesystems(view.current(), found));
        }
        if wanted.disks {
            let found = questions.put("guest-get-disks").await?;
            info.disks = found.map(|found| guest_disks(view.current(), found));
        }
        if wanted.interfaces {
            info.interfaces = questions.put(INTERFACES).await?.map(interfaces);
        }
        Ok(info)
    }
}

const INTERFACES: &str = "guest-network-get-interfaces";

struct Questions {
    agent: Agent,
    /// A question that the agent does not know is a failure.
    must: bool,
}

impl Questions {
    async fn put<T: DeserializeOwned>(&mut self, command: &str) -> Result<Option<T>, Error> {
        match self.agent.try_ask(Ask::new(command)).await {
            Ok(answer) => Ok(Some(answer)),
            Err(AgentError::Unknown { .. } | AgentError::SwitchedOff { .. }) if !self.must => {
                Ok(None)
            }
            Err(error) => Err(error.of(self.agent.name())),
        }
    }
}

/// The name that a guest has given itself (virDomainGetHostname with
/// VIR_DOMAIN_GET_HOSTNAME_AGENT).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestHostname {
    pub domain: DomainRef,
}

impl Operation for GuestHostname {
    type Output = String;
    const NAME: &'static str = "domain.guest-hostname";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let mut agent = Agent::meet(&cx.find(&self.domain)?).await?;
        let name: replies::HostName = agent.ask(Ask::new("guest-get-host-name")).await?;
        Ok(word(&name.host_name))
    }
}

/// Addresses as the guest knows them (virDomainInterfaceAddresses with
/// VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT). Interfaces have the guest's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestAddresses {
    pub domain: DomainRef,
}

impl Operation for GuestAddresses {
    type Output = Vec<AddressRow>;
    const NAME: &'static str = "domain.guest-addresses";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<AddressRow>, Error> {
        let mut agent = Agent::meet(&cx.find(&self.domain)?).await?;
        let found = interfaces(agent.ask(Ask::new(INTERFACES)).await?);
        let rows = found.into_iter().flat_map(|GuestInterface { name, mac, addresses }| {
            addresses.into_iter().map(move |(address, prefix)| AddressRow {
                interface: name.clone(),
                mac: mac.clone().unwrap_or_default(),
                address,
                prefix,
            })
        });
        Ok(rows.take(MOST_ROWS).collect())
    }
}

/// File systems that are mounted in the guest (virDomainGetFSInfo).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListGuestFilesystems {
    pub domain: DomainRef,
}

impl Operation for ListGuestFilesystems {
    type Output = Vec<GuestFilesystem>;
    const NAME: &'static str = "domain.guest-filesystems";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<GuestFilesystem>, Error> {
        let handle = cx.find(&self.domain)?;
        let mut agent = Agent::meet(&handle).await?;
        let found = agent.ask(Ask::new("guest-get-fsinfo")).await?;
        Ok(filesystems(handle.view().current(), found))
    }
}

fn users(found: Vec<replies::User>) -> Vec<GuestUser> {
    let user = |user: replies::User| GuestUser {
        name: word(&user.user),
        domain: maybe(user.domain.as_ref()),
        login_time: (user.login_time.clamp(0.0, 1e15) * 1000.0) as u64,
    };
    found.into_iter().take(MOST_ROWS).map(user).collect()
}

fn os(found: replies::OsInfo) -> GuestOs {
    GuestOs {
        id: maybe(found.id.as_ref()),
        name: maybe(found.name.as_ref()),
        pretty_name: maybe(found.pretty_name.as_ref()),
        version: maybe(found.version.as_ref()),
        version_id: maybe(found.version_id.as_ref()),
        kernel_release: maybe(found.kernel_release.as_ref()),
        kernel_version: maybe(found.kernel_version.as_ref()),
        machine: maybe(found.machine.as_ref()),
        variant: maybe(found.variant.as_ref()),
        variant_id: maybe(found.variant_id.as_ref()),
    }
}

fn timezone(found: replies::Timezone) -> GuestTimezone {
    GuestTimezone { name: maybe(found.zone.as_ref()), offset: found.offset }
}

/// Addresses that are none are left out: a guest may say anything.
fn interfaces(found: Vec<replies::NetworkInterface>) -> Vec<GuestInterface> {
    let address = |address: &replies::IpAddress| {
        let parsed: IpAddr = address.ip_address.split('%').next()?.parse().ok()?;
        Some((parsed, address.prefix))
    };
    let interface = |interface: replies::NetworkInterface| GuestInterface {
        name: word(&interface.name),
        mac: maybe(interface.hardware_address.as_ref()),
        addresses: interface.ip_addresses.iter().take(MOST_ROWS).filter_map(address).collect(),
    };
    found.into_iter().take(MOST_ROWS).map(interface).collect()
}

fn filesystems(def: Option<&DomainDef>, found: Vec<replies::Filesystem>) -> Vec<GuestFilesystem> {
    let disk = |disk: &replies::DiskAddress| GuestFilesystemDisk {
        target: def.and_then(|def| disks::target(def, disk)),
        serial: maybe(disk.serial.as_ref()),
        device: maybe(disk.dev.as_ref()),
    };
    let filesystem = |filesystem: replies::Filesystem| GuestFilesystem {
        name: word(&filesystem.name),
        mountpoint: word(&filesystem.mountpoint),
        kind: word(&filesystem.kind),
        total: filesystem.total_bytes,
        used: filesystem.used_bytes,
        disks: filesystem.disk.iter().take(MOST_ROWS).map(disk).collect(),
    };
    found.into_iter().take(MOST_ROWS).map(filesystem).collect()
}

fn guest_disks(def: Option<&DomainDef>, found: Vec<replies::Disk>) -> Vec<GuestDisk> {
    let disk = |disk: replies::Disk| {
        let address = disk.address.as_ref();
        GuestDisk {
            name: word(&disk.name),
            partition: disk.partition,
            dependencies: disk.dependencies.iter().take(MOST_ROWS).map(|d| word(d)).collect(),
            target: def.zip(address).and_then(|(def, address)| disks::target(def, address)),
            serial: address.and_then(|address| maybe(address.serial.as_ref())),
            guest_alias: maybe(disk.alias.as_ref()),
            guest_bus: address.and_then(|address| maybe(address.bus_type.as_ref())),
        }
    };
    found.into_iter().take(MOST_ROWS).map(disk).collect()
}
