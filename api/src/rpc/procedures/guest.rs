//! What a guest's agent tells and does, and the addresses that guests have.

use std::net::IpAddr;

use management::domain::{AddressRow, AgentTimeout, GuestFilesystem};
use management::ops::{
    AskAgent, FreezeFilesystems, GetGuestTime, GuestAddresses, GuestHostname, LeasedAddresses,
    ListGuestFilesystems, NeighbourAddresses, SetAgentTimeout, SetGuestTime, SetUserPassword,
    ThawFilesystems, TrimFilesystems,
};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::Domain;
use super::{Client, count};

/// virIPAddrType, the address, the length of its prefix.
type Address = (i32, String, u32);

pub(super) fn family(address: IpAddr) -> i32 {
    i32::from(address.is_ipv6())
}

pub(crate) async fn addresses(
    client: Client,
    (domain, source, flags): (Domain, u32, u32),
) -> Result<Vec<(String, Option<String>, Vec<Address>)>, Failure> {
    const LEASE: u32 = 0;
    const AGENT: u32 = 1;
    const ARP: u32 = 2;
    known_flags(flags, 0, "virDomainInterfaceAddresses")?;
    let domain = domain.reference();
    let rows = match source {
        LEASE => client.domain(LeasedAddresses { domain }).await?,
        AGENT => client.domain(GuestAddresses { domain }).await?,
        ARP => client.domain(NeighbourAddresses { domain }).await?,
        _ => {
            let text = format!("there is no source {source} of addresses");
            return Err(Failure::argument_unsupported(&text));
        }
    };
    let mut all: Vec<(String, Option<String>, Vec<Address>)> = Vec::new();
    for AddressRow { interface, mac, address, prefix } in rows {
        let found = (family(address), address.to_string(), u32::from(prefix));
        match all.iter_mut().find(|(name, ..)| *name == interface) {
            Some((.., addresses)) => addresses.push(found),
            None => all.push((interface, Some(mac).filter(|mac| !mac.is_empty()), vec![found])),
        }
    }
    Ok(all)
}

pub(crate) async fn hostname(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<String, Failure> {
    const AGENT: u32 = 2;
    known_flags(flags, AGENT, "virDomainGetHostname")?;
    client.domain(GuestHostname { domain: domain.reference() }).await
}

/// Seconds and nanoseconds.
pub(crate) async fn time(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<(i64, u32), Failure> {
    known_flags(flags, 0, "virDomainGetTime")?;
    let nanoseconds = client.domain(GetGuestTime { domain: domain.reference() }).await?;
    let rest = u32::try_from(nanoseconds.rem_euclid(SECOND)).unwrap_or(0);
    Ok((nanoseconds.div_euclid(SECOND), rest))
}

const SECOND: i64 = 1_000_000_000;

pub(crate) async fn set_time(
    client: Client,
    (domain, seconds, nanoseconds, flags): (Domain, i64, u32, u32),
) -> Result<(), Failure> {
    const SYNC: u32 = 1;
    known_flags(flags, SYNC, "virDomainSetTime")?;
    let told = seconds.saturating_mul(SECOND).saturating_add(i64::from(nanoseconds));
    let time = (flags & SYNC == 0).then_some(told);
    client.domain(SetGuestTime { domain: domain.reference(), time }).await
}

pub(crate) async fn freeze(
    client: Client,
    (domain, mountpoints, flags): (Domain, Vec<String>, u32),
) -> Result<i32, Failure> {
    known_flags(flags, 0, "virDomainFSFreeze")?;
    let frozen =
        client.domain(FreezeFilesystems { domain: domain.reference(), mountpoints }).await?;
    Ok(i32::try_from(frozen).unwrap_or(i32::MAX))
}

/// All of them: agents know no other way.
pub(crate) async fn thaw(
    client: Client,
    (domain, _, flags): (Domain, Vec<String>, u32),
) -> Result<i32, Failure> {
    known_flags(flags, 0, "virDomainFSThaw")?;
    let thawed = client.domain(ThawFilesystems { domain: domain.reference() }).await?;
    Ok(i32::try_from(thawed).unwrap_or(i32::MAX))
}

pub(crate) async fn trim(
    client: Client,
    (domain, mountpoint, minimum, flags): (Domain, Option<String>, u64, u32),
) -> Result<(), Failure> {
    known_flags(flags, 0, "virDomainFSTrim")?;
    if mountpoint.is_some() {
        return Err(Failure::no_support("one file system alone cannot be trimmed"));
    }
    client.domain(TrimFilesystems { domain: domain.reference(), minimum }).await.map(drop)
}

/// Where it is mounted, what it is called, its type, and the disks that it lies on.
type Filesystem = (String, String, String, Vec<String>);

pub(crate) async fn filesystems(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<(Vec<Filesystem>, u32), Failure> {
    known_flags(flags, 0, "virDomainGetFSInfo")?;
    let all = client.domain(ListGuestFilesystems { domain: domain.reference() }).await?;
    let row = |found: GuestFilesystem| {
        let disks = found.disks.into_iter().filter_map(|disk| disk.target).collect();
        (found.mountpoint, found.name, found.kind, disks)
    };
    let all: Vec<_> = all.into_iter().map(row).collect();
    let len = u32::try_from(count(all.len())).unwrap_or(0);
    Ok((all, len))
}

pub(crate) async fn set_password(
    client: Client,
    (domain, user, password, flags): (Domain, Option<String>, Option<String>, u32),
) -> Result<(), Failure> {
    const ENCRYPTED: u32 = 1;
    known_flags(flags, ENCRYPTED, "virDomainSetUserPassword")?;
    let set = SetUserPassword {
        domain: domain.reference(),
        user: user.unwrap_or_default(),
        password: password.unwrap_or_default(),
        encrypted: flags & ENCRYPTED != 0,
    };
    client.domain(set).await
}

/// What a caller wrote goes to the agent as it is, and so does what it says.
pub(crate) async fn agent_command(
    client: Client,
    (domain, command, timeout, flags): (Domain, String, i32, u32),
) -> Result<Option<String>, Failure> {
    known_flags(flags, 0, "virDomainQemuAgentCommand")?;
    // Below 0: as long as it is usual, or for ever, which nobody waits.
    let timeout = u32::try_from(timeout).ok();
    let answer = client.domain(AskAgent { domain: domain.reference(), command, timeout }).await?;
    Ok(Some(answer.get().to_owned()))
}

pub(crate) async fn set_agent_timeout(
    client: Client,
    (domain, timeout, flags): (Domain, i32, u32),
) -> Result<i32, Failure> {
    known_flags(flags, 0, "virDomainAgentSetResponseTimeout")?;
    let timeout = AgentTimeout::of(timeout).ok_or_else(|| {
        let text = format!(
            "an agent has -2 (as long as it takes), -1 (as usual) or 0 to 65535 s, not {timeout}"
        );
        Failure::invalid_argument(Area::Domain, &text)
    })?;
    client.domain(SetAgentTimeout { domain: domain.reference(), timeout }).await?;
    Ok(0)
}
