//! [`Shape`]: what of a machine a guest has seen, and so must be the same where it goes on.

use serde::{Deserialize, Serialize};
use vmm_protocol::config::{Boot, Firmware, InputRole, MachineConfig, NumaCell, PciKind};

use super::ImageError;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    platform: String,
    memory: u64,
    vcpus: String,
    serial_ports: Vec<u8>,
    /// Kind and address of each device.
    devices: Vec<String>,
}

/// The guest's NUMA nodes, if it sees any.
fn nodes(config: &MachineConfig) -> String {
    let node = |cell: &NumaCell| format!(", node of {} with {:?}", cell.memory, cell.cpus);
    config.numa.cells.iter().map(node).collect()
}

/// What of Hyper-V the guest may have turned on.
fn enlightenments(config: &MachineConfig) -> String {
    match &config.cpus.details.hyperv {
        None => String::new(),
        Some(hyperv) if hyperv.passthrough => ", all of Hyper-V".to_owned(),
        Some(hyperv) => format!(", {} of Hyper-V", hyperv.enlightenments.join(" ")),
    }
}

impl Shape {
    #[must_use]
    pub fn of(config: &MachineConfig) -> Self {
        let topology = config.cpus.topology;
        let mut devices: Vec<String> = config
            .pci
            .iter()
            .map(|device| {
                let kind = match &device.kind {
                    PciKind::RootPort(_) => "root port",
                    PciKind::Blk(_) => "disk",
                    PciKind::Scsi(_) => "SCSI host",
                    PciKind::Ahci(_) => "AHCI adapter",
                    PciKind::Ide(_) => "IDE function",
                    PciKind::Nvme(_) => "NVMe controller",
                    PciKind::Net(_) => "interface",
                    PciKind::Console(_) => "console",
                    PciKind::Rng(_) => "rng",
                    PciKind::Video(_) => "graphics card",
                    PciKind::Balloon(_) => "balloon",
                    PciKind::Input(input) => match input.role {
                        InputRole::Keyboard => "keyboard",
                        InputRole::Mouse => "mouse",
                        InputRole::Tablet => "tablet",
                    },
                    PciKind::Vsock(_) => "vsock",
                    PciKind::Watchdog(_) => "watchdog",
                };
                let at = device.address;
                format!("{kind} {} at {}:{}.{}", device.id, at.bus, at.slot, at.function)
            })
            .collect();
        let drives = config.pci.iter().flat_map(|device| device.kind.drives());
        devices.extend(drives.map(|drive| format!("drive {}", drive.id)));
        devices.extend(config.ramfb.as_ref().map(|ramfb| format!("ramfb {}", ramfb.id)));
        devices.extend(config.generation.map(|_| "generation".to_owned()));
        devices.extend(config.pvpanic.then(|| "pvpanic".to_owned()));
        Self {
            platform: format!(
                "{:?} version {} with {}",
                config.platform.machine,
                config.platform.version,
                match &config.boot {
                    Boot::Kernel { .. } => "a kernel",
                    Boot::Firmware(Firmware { variables: None, .. }) => "firmware",
                    Boot::Firmware(Firmware { variables: Some(_), .. }) => "firmware and flash",
                }
            ),
            memory: config.memory.size,
            vcpus: format!(
                "{}{} in {} x {} x {} x {}{}{}",
                config.cpus.count,
                if config.cpus.present.is_some() { " that come and go" } else { "" },
                topology.sockets,
                topology.dies,
                topology.cores,
                topology.threads,
                nodes(config),
                enlightenments(config)
            ),
            serial_ports: config.serial.iter().map(|serial| serial.port).collect(),
            devices,
        }
    }

    /// Refuse to go on as `here` what was saved as `self`, saying the first difference.
    pub fn must_be(&self, here: &Self) -> Result<(), ImageError> {
        let differ = |what, saved: String, here: String| match saved == here {
            true => Ok(()),
            false => Err(ImageError::Mismatch { what, saved, here }),
        };
        differ("the platform", self.platform.clone(), here.platform.clone())?;
        differ("the memory size", self.memory.to_string(), here.memory.to_string())?;
        differ("the number of vCPUs", self.vcpus.clone(), here.vcpus.clone())?;
        let ports = |shape: &Self| format!("{:?}", shape.serial_ports);
        differ("the set of serial ports", ports(self), ports(here))?;
        // One that came while the guest ran stood last then, and has its place in the definition now.
        let devices = |shape: &Self| {
            let mut devices: Vec<_> = shape.devices.iter().map(String::as_str).collect();
            devices.sort_unstable();
            devices.join(", ")
        };
        differ("the set of devices", devices(self), devices(here))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(devices: &[&str]) -> Shape {
        Shape {
            platform: "Q35".to_owned(),
            memory: 1 << 20,
            vcpus: "1".to_owned(),
            serial_ports: vec![0],
            devices: devices.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn devices_are_the_same_in_any_order_and_none_may_be_missing() {
        let saved = shape(&["disk a at 0:3.0", "graphics card v at 0:1.0", "disk b at 0:4.0"]);
        let here = shape(&["disk a at 0:3.0", "disk b at 0:4.0", "graphics card v at 0:1.0"]);
        assert!(saved.must_be(&here).is_ok());
        let fewer = shape(&["disk a at 0:3.0", "graphics card v at 0:1.0"]);
        let said = saved.must_be(&fewer).unwrap_err().to_string();
        assert!(said.contains("disk b at 0:4.0"), "{said}");
    }
}
