//! Processors, keys and sleep of a guest, through its agent.

use management::domain::GuestVcpu;
use management::ops::{
    GetGuestVcpus, GetSshKeys, GuestVcpuChange, SetGuestVcpus, SetSshKeys, SleepTarget,
    SshKeyChange, SuspendGuest,
};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::Domain;
use super::super::protocol::typed::Parameters;
use super::{Client, count};

/// Far above the processors of any guest.
const MOST: u32 = 4096;

pub(crate) async fn vcpus(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<Parameters, Failure> {
    known_flags(flags, 0, "virDomainGetGuestVcpus")?;
    let all = client.domain(GetGuestVcpus { domain: domain.reference() }).await?;
    let ids = |wanted: fn(&GuestVcpu) -> bool| {
        let ids: Vec<u32> = all.iter().filter(|vcpu| wanted(vcpu)).map(|vcpu| vcpu.id).collect();
        ranges(ids)
    };
    let mut told = Parameters::default();
    told.string("vcpus", ids(|_| true));
    told.string("online", ids(|vcpu| vcpu.online));
    told.string("offlinable", ids(|vcpu| vcpu.can_offline));
    Ok(told)
}

pub(crate) async fn set_vcpus(
    client: Client,
    (domain, list, state, flags): (Domain, String, i32, u32),
) -> Result<(), Failure> {
    known_flags(flags, 0, "virDomainSetGuestVcpus")?;
    let wrong = || {
        let text = format!("{list:?} is no list of processors, such as 0-3,5");
        Failure::invalid_argument(Area::Domain, &text)
    };
    let online = match state {
        0 => false,
        1 => true,
        _ => {
            return Err(Failure::invalid_argument(
                Area::Domain,
                "a processor is off (0) or on (1)",
            ));
        }
    };
    let ids = ids(&list).ok_or_else(wrong)?;
    let change = GuestVcpuChange::These { ids, online };
    client.domain(SetGuestVcpus { domain: domain.reference(), change }).await
}

/// How many a guest has, or uses.
pub(super) async fn counted(client: &Client, domain: &Domain, all: bool) -> Result<i32, Failure> {
    let vcpus = client.domain(GetGuestVcpus { domain: domain.reference() }).await?;
    Ok(count(vcpus.iter().filter(|vcpu| all || vcpu.online).count()))
}

pub(super) async fn set_count(client: &Client, domain: &Domain, vcpus: u32) -> Result<(), Failure> {
    let change = GuestVcpuChange::Count(vcpus);
    client.domain(SetGuestVcpus { domain: domain.reference(), change }).await
}

pub(crate) async fn ssh_keys(
    client: Client,
    (domain, user, flags): (Domain, String, u32),
) -> Result<Vec<String>, Failure> {
    known_flags(flags, 0, "virDomainAuthorizedSSHKeysGet")?;
    client.domain(GetSshKeys { domain: domain.reference(), user }).await
}

pub(crate) async fn set_ssh_keys(
    client: Client,
    (domain, user, keys, flags): (Domain, String, Vec<String>, u32),
) -> Result<(), Failure> {
    const APPEND: u32 = 1;
    const REMOVE: u32 = 2;
    known_flags(flags, APPEND | REMOVE, "virDomainAuthorizedSSHKeysSet")?;
    let change = match flags {
        0 => SshKeyChange::Replace,
        APPEND => SshKeyChange::Append,
        REMOVE => SshKeyChange::Remove,
        _ => return Err(Failure::invalid_argument(Area::Domain, "keys are added, or removed")),
    };
    client.domain(SetSshKeys { domain: domain.reference(), user, keys, change }).await
}

pub(crate) async fn suspend(
    client: Client,
    (domain, target, duration, flags): (Domain, u32, u64, u32),
) -> Result<(), Failure> {
    known_flags(flags, 0, "virDomainPMSuspendForDuration")?;
    if duration != 0 {
        let text = "a guest sleeps until it is woken: the duration is 0";
        return Err(Failure::argument_unsupported(text));
    }
    let target = match target {
        0 => SleepTarget::Memory,
        1 => SleepTarget::Disk,
        2 => SleepTarget::Hybrid,
        _ => return Err(Failure::invalid_argument(Area::Domain, "no such place to sleep in")),
    };
    client.domain(SuspendGuest { domain: domain.reference(), target }).await
}

/// As libvirt writes them: `0-2,5`.
pub(super) fn ranges(mut ids: Vec<u32>) -> String {
    ids.sort_unstable();
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for id in ids {
        match parts.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(id) => *last = id,
            _ => parts.push((id, id)),
        }
    }
    let part = |(first, last): (u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    parts.into_iter().map(part).collect::<Vec<_>>().join(",")
}

pub(super) fn ids(list: &str) -> Option<Vec<u32>> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|id| *id < MOST);
    let mut found = std::collections::BTreeSet::new();
    for part in list.split(',') {
        match (part.strip_prefix('^'), part.split_once('-')) {
            (Some(out), _) => _ = found.remove(&number(out)?),
            (None, Some((first, last))) => found.extend(number(first)?..=number(last)?),
            (None, None) => _ = found.insert(number(part)?),
        }
    }
    Some(found.into_iter().collect()).filter(|found: &Vec<u32>| !found.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back_as_they_went() {
        for list in ["0", "0-3", "0-1,3,5-6"] {
            assert_eq!(ids(list).map(ranges).as_deref(), Some(list));
        }
        assert_eq!(ids("0-3,^2").map(ranges).as_deref(), Some("0-1,3"));
        for wrong in ["", "a", "3-1", "0-4294967295", "^0", "0,,1"] {
            assert_eq!(ids(wrong), None, "{wrong}");
        }
        assert_eq!(ranges(Vec::new()), "");
    }
}
