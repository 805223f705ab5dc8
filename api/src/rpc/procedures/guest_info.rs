//! What a guest tells of itself, by libvirt's names (virDomainGetGuestInfo).

use management::domain::{
    GuestDisk, GuestFilesystem, GuestInfo, GuestInterface, GuestOs, GuestParts, GuestTimezone,
    GuestUser,
};
use management::ops::GetGuestInfo;

use super::super::failure::{Failure, known_flags};
use super::super::protocol::object::Domain;
use super::super::protocol::typed::Parameters;
use super::Client;
use super::guest::family;

const USERS: u32 = 1;
const OS: u32 = 2;
const TIMEZONE: u32 = 4;
const HOSTNAME: u32 = 8;
const FILESYSTEMS: u32 = 16;
const DISKS: u32 = 32;
const INTERFACES: u32 = 64;
const ALL: u32 = 127;

pub(crate) async fn guest_info(
    client: Client,
    (domain, types, flags): (Domain, u32, u32),
) -> Result<Parameters, Failure> {
    known_flags(flags, 0, "virDomainGetGuestInfo")?;
    known_flags(types, ALL, "virDomainGetGuestInfo")?;
    let is = |kind: u32| types & kind != 0;
    let parts = GuestParts {
        users: is(USERS),
        os: is(OS),
        timezone: is(TIMEZONE),
        hostname: is(HOSTNAME),
        filesystems: is(FILESYSTEMS),
        disks: is(DISKS),
        interfaces: is(INTERFACES),
    };
    let parts = (types != 0).then_some(parts);
    let info = client.domain(GetGuestInfo { domain: domain.reference(), parts }).await?;
    Ok(parameters(info))
}

fn parameters(info: GuestInfo) -> Parameters {
    let mut told = Parameters::default();
    each(&mut told, "user", info.users, user);
    if let Some(found) = info.os {
        os(&mut told, found);
    }
    if let Some(GuestTimezone { name, offset }) = info.timezone {
        maybe(&mut told, "timezone.name", name);
        told.int("timezone.offset", offset);
    }
    maybe(&mut told, "hostname", info.hostname);
    each(&mut told, "fs", info.filesystems, filesystem);
    each(&mut told, "disk", info.disks, disk);
    each(&mut told, "if", info.interfaces, interface);
    told
}

fn maybe(told: &mut Parameters, field: impl Into<String>, value: Option<String>) {
    if let Some(value) = value {
        told.string(field.into(), value);
    }
}

/// `user.count`, then each as `user.0`.
fn each<T>(
    told: &mut Parameters,
    kind: &str,
    all: Option<Vec<T>>,
    tell: fn(&mut Parameters, &str, T),
) {
    let Some(all) = all else { return };
    told.uint(format!("{kind}.count"), u32::try_from(all.len()).unwrap_or(u32::MAX));
    for (number, one) in all.into_iter().enumerate() {
        tell(told, &format!("{kind}.{number}"), one);
    }
}

fn user(told: &mut Parameters, at: &str, user: GuestUser) {
    told.string(format!("{at}.name"), user.name);
    maybe(told, format!("{at}.domain"), user.domain);
    told.ullong(format!("{at}.login-time"), user.login_time);
}

fn os(told: &mut Parameters, os: GuestOs) {
    for (name, value) in [
        ("id", os.id),
        ("name", os.name),
        ("pretty-name", os.pretty_name),
        ("version", os.version),
        ("version-id", os.version_id),
        ("kernel-release", os.kernel_release),
        ("kernel-version", os.kernel_version),
        ("machine", os.machine),
        ("variant", os.variant),
        ("variant-id", os.variant_id),
    ] {
        maybe(told, format!("os.{name}"), value);
    }
}

fn filesystem(told: &mut Parameters, at: &str, found: GuestFilesystem) {
    told.string(format!("{at}.name"), found.name);
    told.string(format!("{at}.mountpoint"), found.mountpoint);
    told.string(format!("{at}.fstype"), found.kind);
    for (name, bytes) in [("total-bytes", found.total), ("used-bytes", found.used)] {
        if let Some(bytes) = bytes {
            told.ullong(format!("{at}.{name}"), bytes);
        }
    }
    each(told, &format!("{at}.disk"), Some(found.disks), |told, at, disk| {
        maybe(told, format!("{at}.alias"), disk.target);
        maybe(told, format!("{at}.serial"), disk.serial);
        maybe(told, format!("{at}.device"), disk.device);
    });
}

fn disk(told: &mut Parameters, at: &str, disk: GuestDisk) {
    told.string(format!("{at}.name"), disk.name);
    told.add(
        format!("{at}.partition"),
        super::super::protocol::typed::Value::Boolean(disk.partition),
    );
    each(told, &format!("{at}.dependency"), Some(disk.dependencies), |told, at, name| {
        told.string(format!("{at}.name"), name);
    });
    maybe(told, format!("{at}.serial"), disk.serial);
    maybe(told, format!("{at}.alias"), disk.target);
    maybe(told, format!("{at}.guest_alias"), disk.guest_alias);
    maybe(told, format!("{at}.guest_bus"), disk.guest_bus);
}

fn interface(told: &mut Parameters, at: &str, interface: GuestInterface) {
    told.string(format!("{at}.name"), interface.name);
    maybe(told, format!("{at}.hwaddr"), interface.mac);
    each(told, &format!("{at}.addr"), Some(interface.addresses), |told, at, (address, prefix)| {
        let kind = if family(address) == 0 { "ipv4" } else { "ipv6" };
        told.string(format!("{at}.type"), kind);
        told.string(format!("{at}.addr"), address.to_string());
        told.uint(format!("{at}.prefix"), prefix.into());
    });
}
