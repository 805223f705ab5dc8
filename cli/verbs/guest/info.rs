//! guestinfo: what a guest tells of itself, under libvirt's names.

use std::fmt::Write as _;

use api::types::GuestInfo;

use super::Session;
use crate::args::Guestinfo;
use crate::failure::Failure;
use crate::terminal::printable;

pub(crate) async fn guestinfo(session: &Session, args: Guestinfo) -> Result<(), Failure> {
    let wanted = [
        (args.user, "users"),
        (args.os, "os"),
        (args.timezone, "timezone"),
        (args.hostname, "hostname"),
        (args.filesystem, "filesystems"),
        (args.disk, "disks"),
        (args.interface, "interfaces"),
    ];
    let parts: Vec<_> = wanted.iter().filter(|(is, _)| *is).map(|(_, part)| *part).collect();
    let parts = (!parts.is_empty()).then(|| parts.join(","));
    let call = session.client.guest_info(&args.domain, parts.as_deref());
    let info = session.of(&args.domain, call).await?;
    if session.terminal.json {
        session.terminal.print_json(&info);
        return Ok(());
    }
    let mut text = String::new();
    for (name, value) in fields(&info) {
        let _ = writeln!(text, "{name:<20}: {}", printable(&value));
    }
    session.terminal.print(&text);
    Ok(())
}

/// Typed parameters of virDomainGetGuestInfo.
fn fields(info: &GuestInfo) -> Vec<(String, String)> {
    let mut fields = Fields::default();
    if let Some(users) = &info.users {
        fields.put("user.count", users.len());
        for (at, user) in users.iter().enumerate() {
            fields.put(format!("user.{at}.name"), &user.name);
            fields.maybe(format!("user.{at}.domain"), user.domain.as_ref());
            fields.put(format!("user.{at}.login-time"), user.login_time_ms);
        }
    }
    if let Some(os) = &info.os {
        let all = [
            ("id", &os.id),
            ("name", &os.name),
            ("pretty-name", &os.pretty_name),
            ("version", &os.version),
            ("version-id", &os.version_id),
            ("kernel-release", &os.kernel_release),
            ("kernel-version", &os.kernel_version),
            ("machine", &os.machine),
            ("variant", &os.variant),
            ("variant-id", &os.variant_id),
        ];
        for (name, value) in all {
            fields.maybe(format!("os.{name}"), value.as_ref());
        }
    }
    if let Some(zone) = &info.timezone {
        fields.maybe("timezone.name", zone.name.as_ref());
        fields.put("timezone.offset", zone.offset_s);
    }
    fields.maybe("hostname", info.hostname.as_ref());
    if let Some(filesystems) = &info.filesystems {
        fields.put("fs.count", filesystems.len());
        for (at, filesystem) in filesystems.iter().enumerate() {
            fields.put(format!("fs.{at}.name"), &filesystem.name);
            fields.put(format!("fs.{at}.mountpoint"), &filesystem.mountpoint);
            fields.put(format!("fs.{at}.fstype"), &filesystem.fstype);
            fields.maybe(format!("fs.{at}.total-bytes"), filesystem.total_bytes);
            fields.maybe(format!("fs.{at}.used-bytes"), filesystem.used_bytes);
            fields.put(format!("fs.{at}.disk.count"), filesystem.disks.len());
            for (disk_at, disk) in filesystem.disks.iter().enumerate() {
                let name = format!("fs.{at}.disk.{disk_at}");
                fields.maybe(format!("{name}.alias"), disk.target.as_ref());
                fields.maybe(format!("{name}.serial"), disk.serial.as_ref());
                fields.maybe(format!("{name}.device"), disk.device.as_ref());
            }
        }
    }
    if let Some(disks) = &info.disks {
        fields.put("disk.count", disks.len());
        for (at, disk) in disks.iter().enumerate() {
            fields.put(format!("disk.{at}.name"), &disk.name);
            fields.put(format!("disk.{at}.partition"), if disk.partition { "yes" } else { "no" });
            fields.put(format!("disk.{at}.dependency.count"), disk.dependencies.len());
            for (below, name) in disk.dependencies.iter().enumerate() {
                fields.put(format!("disk.{at}.dependency.{below}.name"), name);
            }
            fields.maybe(format!("disk.{at}.serial"), disk.serial.as_ref());
            fields.maybe(format!("disk.{at}.alias"), disk.target.as_ref());
            fields.maybe(format!("disk.{at}.guest_alias"), disk.guest_alias.as_ref());
            fields.maybe(format!("disk.{at}.guest_bus"), disk.guest_bus.as_ref());
        }
    }
    if let Some(interfaces) = &info.interfaces {
        fields.put("if.count", interfaces.len());
        for (at, interface) in interfaces.iter().enumerate() {
            fields.put(format!("if.{at}.name"), &interface.name);
            fields.maybe(format!("if.{at}.hwaddr"), interface.mac.as_ref());
            fields.put(format!("if.{at}.addr.count"), interface.addresses.len());
            for (address_at, address) in interface.addresses.iter().enumerate() {
                let name = format!("if.{at}.addr.{address_at}");
                let kind = if address.address.contains(':') { "ipv6" } else { "ipv4" };
                fields.put(format!("{name}.type"), kind);
                fields.put(format!("{name}.addr"), &address.address);
                fields.put(format!("{name}.prefix"), address.prefix);
            }
        }
    }
    fields.0
}

#[derive(Default)]
struct Fields(Vec<(String, String)>);

impl Fields {
    fn put(&mut self, name: impl Into<String>, value: impl ToString) {
        self.0.push((name.into(), value.to_string()));
    }

    fn maybe(&mut self, name: impl Into<String>, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use api::types::{GuestAddress, GuestInterface, GuestUser};

    use super::*;

    #[test]
    fn fields_have_libvirts_names() {
        let info = GuestInfo {
            users: Some(vec![GuestUser { name: "root".into(), domain: None, login_time_ms: 7 }]),
            hostname: Some("web".into()),
            interfaces: Some(vec![GuestInterface {
                name: "eth0".into(),
                mac: Some("52:54:00:00:00:01".into()),
                addresses: vec![GuestAddress { address: "fe80::1".into(), prefix: 64 }],
            }]),
            ..GuestInfo::default()
        };
        let lines: Vec<_> = fields(&info).iter().map(|(n, v)| format!("{n}={v}")).collect();
        let expected = [
            "user.count=1",
            "user.0.name=root",
            "user.0.login-time=7",
            "hostname=web",
            "if.count=1",
            "if.0.name=eth0",
            "if.0.hwaddr=52:54:00:00:00:01",
            "if.0.addr.count=1",
            "if.0.addr.0.type=ipv6",
            "if.0.addr.0.addr=fe80::1",
            "if.0.addr.0.prefix=64",
        ];
        assert_eq!(lines, expected);
    }
}
