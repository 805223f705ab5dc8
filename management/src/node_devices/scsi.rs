//! What SCSI has: hosts, which are adapters and also each port of SATA, their targets, and the
//! units of these.

use std::path::Path;

use super::{NodeDevice, NodeDeviceKind, child, device, entries, file_name, text};

/// By the kernel's name: `host0`, `target0:0:0`, `0:0:0:0`.
pub(super) fn name_of(name: &str) -> Option<(String, NodeDeviceKind)> {
    let numbers = |text: &str, count: usize| {
        let parts: Vec<_> = text.split(':').collect();
        let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        (parts.len() == count && parts.iter().all(is_number)).then(|| parts.join("_"))
    };
    if let Some(host) = name.strip_prefix("host") {
        return Some((format!("scsi_host{}", numbers(host, 1)?), NodeDeviceKind::ScsiHost));
    }
    if let Some(target) = name.strip_prefix("target") {
        return Some((format!("scsi_target{}", numbers(target, 3)?), NodeDeviceKind::ScsiTarget));
    }
    Some((format!("scsi_{}", numbers(name, 4)?), NodeDeviceKind::Scsi))
}

pub(super) fn read(sys: &Path) -> impl Iterator<Item = NodeDevice> {
    entries(&sys.join("bus/scsi/devices")).filter_map(move |path| {
        let name = file_name(&path)?;
        let (own, kind) = name_of(name)?;
        let mut inside = String::new();
        match kind {
            NodeDeviceKind::ScsiHost => host(sys, name, &mut inside),
            NodeDeviceKind::ScsiTarget => child(&mut inside, 4, "target", Some(name.to_owned())),
            _ => unit(&path, name, &mut inside),
        }
        Some(device((sys, &path), own, kind, &inside))
    })
}

fn host(sys: &Path, name: &str, inside: &mut String) {
    let about = sys.join("class/scsi_host").join(name);
    child(inside, 4, "host", name.strip_prefix("host").map(str::to_owned));
    child(inside, 4, "unique_id", text(&about, "unique_id"));
}

fn unit(path: &Path, name: &str, inside: &mut String) {
    for (element, number) in ["host", "bus", "target", "lun"].into_iter().zip(name.split(':')) {
        child(inside, 4, element, Some(number.to_owned()));
    }
    // SCSI Primary Commands, "peripheral device type".
    let kind = match text(path, "type").as_deref() {
        Some("0") => "disk",
        Some("1") => "tape",
        Some("3") => "processor",
        Some("5") => "cdrom",
        Some("7") => "optical",
        Some("12") => "raid",
        Some("13") => "enclosure",
        _ => return,
    };
    child(inside, 4, "type", Some(kind.to_owned()));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::node_devices;

    #[test]
    fn a_disk_hangs_below_its_unit_its_target_and_its_host() {
        let dir = tempfile::tempdir().unwrap();
        let sys = fs::canonicalize(dir.path()).unwrap();
        let host = "devices/pci0000:00/ata1/host0";
        let target = format!("{host}/target0:0:0");
        let unit = format!("{target}/0:0:0:0");
        let disk = format!("{unit}/block/sda");
        fs::create_dir_all(sys.join(&disk)).unwrap();
        fs::create_dir_all(sys.join("bus/scsi/devices")).unwrap();
        fs::create_dir_all(sys.join("block")).unwrap();
        for path in [host, &target, &unit] {
            symlink(sys.join("bus/scsi"), sys.join(path).join("subsystem")).unwrap();
            let name = path.rsplit('/').next().unwrap();
            symlink(sys.join(path), sys.join("bus/scsi/devices").join(name)).unwrap();
        }
        fs::write(sys.join(&unit).join("type"), "0\n").unwrap();
        symlink(sys.join(&unit), sys.join(&disk).join("device")).unwrap();
        symlink(sys.join(&disk), sys.join("block/sda")).unwrap();
        let found = node_devices::read(&sys);
        let tree: Vec<_> =
            found.iter().map(|device| (device.name.as_str(), device.parent.as_deref())).collect();
        let expected = [
            ("computer", None),
            ("scsi_0_0_0_0", Some("scsi_target0_0_0")),
            ("scsi_host0", Some("computer")),
            ("scsi_target0_0_0", Some("scsi_host0")),
            ("block_sda", Some("scsi_0_0_0_0")),
        ];
        assert_eq!(tree, expected);
        let unit = node_devices::find(&sys, "scsi_0_0_0_0").unwrap();
        for part in ["<lun>0</lun>", "<type>disk</type>", "<capability type='scsi'>"] {
            assert!(unit.xml.contains(part), "{}", unit.xml);
        }
        let host = node_devices::find(&sys, "scsi_host0").unwrap();
        assert!(host.xml.contains("    <host>0</host>\n"), "{}", host.xml);
    }

    #[test]
    fn names_that_the_kernel_gives_to_nothing_of_scsi_are_none() {
        for name in ["", "host", "hostx", "target0:0", "0:0:0", "0:0:0:", "a:b:c:d"] {
            assert_eq!(name_of(name), None, "{name}");
        }
    }
}
