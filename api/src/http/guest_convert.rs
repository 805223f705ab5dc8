//! What a guest's agent tells, on its way to the wire.

use management::domain;

use crate::types;

impl From<domain::GuestInfo> for types::GuestInfo {
    fn from(info: domain::GuestInfo) -> Self {
        Self {
            users: info.users.map(all),
            os: info.os.map(Into::into),
            timezone: info
                .timezone
                .map(|zone| types::GuestTimezone { name: zone.name, offset_s: zone.offset }),
            hostname: info.hostname,
            filesystems: info.filesystems.map(all),
            disks: info.disks.map(all),
            interfaces: info.interfaces.map(all),
        }
    }
}

fn all<A, B: From<A>>(rows: Vec<A>) -> Vec<B> {
    rows.into_iter().map(Into::into).collect()
}

impl From<domain::GuestUser> for types::GuestUser {
    fn from(user: domain::GuestUser) -> Self {
        Self { name: user.name, domain: user.domain, login_time_ms: user.login_time }
    }
}

impl From<domain::GuestOs> for types::GuestOs {
    fn from(os: domain::GuestOs) -> Self {
        Self {
            id: os.id,
            name: os.name,
            pretty_name: os.pretty_name,
            version: os.version,
            version_id: os.version_id,
            kernel_release: os.kernel_release,
            kernel_version: os.kernel_version,
            machine: os.machine,
            variant: os.variant,
            variant_id: os.variant_id,
        }
    }
}

impl From<domain::GuestFilesystem> for types::GuestFilesystem {
    fn from(filesystem: domain::GuestFilesystem) -> Self {
        Self {
            name: filesystem.name,
            mountpoint: filesystem.mountpoint,
            fstype: filesystem.kind,
            total_bytes: filesystem.total,
            used_bytes: filesystem.used,
            disks: all(filesystem.disks),
        }
    }
}

impl From<domain::GuestFilesystemDisk> for types::GuestFilesystemDisk {
    fn from(disk: domain::GuestFilesystemDisk) -> Self {
        Self { target: disk.target, serial: disk.serial, device: disk.device }
    }
}

impl From<domain::GuestDisk> for types::GuestDisk {
    fn from(disk: domain::GuestDisk) -> Self {
        Self {
            name: disk.name,
            partition: disk.partition,
            dependencies: disk.dependencies,
            target: disk.target,
            serial: disk.serial,
            guest_alias: disk.guest_alias,
            guest_bus: disk.guest_bus,
        }
    }
}

impl From<domain::GuestInterface> for types::GuestInterface {
    fn from(interface: domain::GuestInterface) -> Self {
        let address = |(address, prefix): (std::net::IpAddr, u8)| types::GuestAddress {
            address: address.to_string(),
            prefix,
        };
        Self {
            name: interface.name,
            mac: interface.mac,
            addresses: interface.addresses.into_iter().map(address).collect(),
        }
    }
}
