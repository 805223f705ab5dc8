//! [`Files`]: the descriptors that came with the process, each taken once by the part that needs it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use vmm_protocol::config::{Boot, Chardev, Fd, FwCfgContent, MachineConfig, PciKind, VsockHost};

use super::sys;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("descriptor {number} ({purpose}) is not open")]
    NotOpen { number: i32, purpose: String, source: io::Error },
    #[error("descriptor {number} is given as {first} and as {second}")]
    Twice { number: i32, first: String, second: String },
    #[error("descriptor {number} was not named in the configuration, or is in use already")]
    Unknown { number: i32 },
    #[error("descriptor {number} ({purpose}) must lie above the standard streams")]
    Reserved { number: i32, purpose: String },
}

#[derive(Default)]
pub struct Files(BTreeMap<Fd, OwnedFd>);

impl Files {
    /// Take ownership of every descriptor that `config` names.
    pub fn adopt(config: &MachineConfig) -> Result<Self, FileError> {
        let mut purposes: BTreeMap<Fd, String> = BTreeMap::new();
        for (fd, purpose) in named(config) {
            let number = fd.0;
            if number < vmm_protocol::config::FIRST_FD {
                return Err(FileError::Reserved { number, purpose });
            }
            if let Some(first) = purposes.get(&fd) {
                return Err(FileError::Twice { number, first: first.clone(), second: purpose });
            }
            purposes.insert(fd, purpose);
        }
        let mut files = Self::default();
        for (fd, purpose) in purposes {
            let owned = sys::adopt(fd.0).map_err(|source| FileError::NotOpen {
                number: fd.0,
                purpose,
                source,
            })?;
            files.0.insert(fd, owned);
        }
        Ok(files)
    }

    /// Those that came beside a request, which names them by their place: 0, 1, 2 …
    #[must_use]
    pub fn passed(files: Vec<OwnedFd>) -> Self {
        Self((0..).map(Fd).zip(files).collect())
    }

    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub fn take(&mut self, fd: Fd) -> Result<OwnedFd, FileError> {
        self.0.remove(&fd).ok_or(FileError::Unknown { number: fd.0 })
    }

    pub fn take_file(&mut self, fd: Fd) -> Result<File, FileError> {
        self.take(fd).map(File::from)
    }

    #[cfg(test)]
    pub fn insert(&mut self, fd: Fd, file: OwnedFd) {
        self.0.insert(fd, file);
    }
}

/// Every descriptor of a configuration with what it is for.
fn named(config: &MachineConfig) -> Vec<(Fd, String)> {
    let process = &config.process;
    let mut all = vec![
        (process.kvm, "/dev/kvm".to_owned()),
        (process.control, "control socket".to_owned()),
        (process.exit_record, "exit record".to_owned()),
    ];
    all.extend(process.log.map(|fd| (fd, "log".to_owned())));
    all.extend(process.locks.iter().map(|fd| (*fd, "lock".to_owned())));
    match &config.boot {
        Boot::Kernel { kernel, initrd, .. } => {
            all.push((*kernel, "kernel".to_owned()));
            all.extend(initrd.map(|fd| (fd, "initrd".to_owned())));
        }
        Boot::Firmware(firmware) => {
            all.push((firmware.image, "firmware".to_owned()));
            let variables = firmware.variables;
            all.extend(variables.map(|fd| (fd, "firmware variables".to_owned())));
        }
    }
    for file in &config.fw_cfg {
        if let FwCfgContent::File(fd) = file.content {
            all.push((fd, format!("fw_cfg file {}", file.name)));
        }
    }
    for serial in &config.serial {
        all.extend(of_chardev(&serial.chardev, &serial.id));
    }
    for device in &config.pci {
        for drive in device.kind.drives() {
            let Some(medium) = &drive.medium else { continue };
            let files = medium.image.files().into_iter();
            all.extend(files.map(|file| (file, format!("image of {}", drive.id))));
        }
        let id = &device.id;
        match &device.kind {
            PciKind::Ahci(_)
            | PciKind::Ide(_)
            | PciKind::Balloon(_)
            | PciKind::Input(_)
            | PciKind::Nvme(_)
            | PciKind::Rng(_)
            | PciKind::RootPort(_)
            | PciKind::Scsi(_)
            | PciKind::Watchdog(_) => {}
            PciKind::Vsock(vsock) => all.push(match vsock.host {
                VsockHost::Kernel { vhost, .. } => (vhost, format!("vhost device of {id}")),
                VsockHost::Socket { listener } => (listener, format!("socket of {id}")),
            }),
            PciKind::Blk(blk) => {
                let files = blk.image.files().into_iter();
                all.extend(files.map(|file| (file, format!("image of {id}"))));
            }
            PciKind::Net(net) => {
                all.extend(net.taps.iter().map(|fd| (*fd, format!("tap of {id}"))));
                all.extend(net.stream.map(|fd| (fd, format!("network of {id}"))));
                all.extend(net.vhost.iter().map(|fd| (*fd, format!("vhost device of {id}"))));
                all.extend(net.rom.map(|fd| (fd, format!("option ROM of {id}"))));
            }
            PciKind::Video(video) => {
                all.extend(video.rom.map(|fd| (fd, format!("option ROM of {id}"))));
            }
            PciKind::Console(console) => {
                for port in &console.ports {
                    all.extend(of_chardev(&port.chardev, &port.id));
                }
            }
        }
    }
    if let Some(ramfb) = &config.ramfb {
        all.extend(ramfb.rom.map(|fd| (fd, format!("option ROM of {}", ramfb.id))));
    }
    let listeners = config.vnc.iter().flat_map(|server| &server.listeners);
    all.extend(listeners.map(|fd| (*fd, "VNC listener".to_owned())));
    for tls in config.vnc.iter().filter_map(|server| server.tls) {
        all.push((tls.certificate, "VNC certificate".to_owned()));
        all.push((tls.key, "VNC key".to_owned()));
        all.extend(tls.viewers.map(|fd| (fd, "VNC authority".to_owned())));
    }
    all.extend(config.restore.iter().map(|restore| (restore.image, "saved state".to_owned())));
    all
}

fn of_chardev<'a>(chardev: &Chardev, id: &'a str) -> impl Iterator<Item = (Fd, String)> + use<'a> {
    let ends = [
        (chardev.pty.map(|pty| pty.master), "pty"),
        (chardev.pty.map(|pty| pty.slave), "terminal of the pty"),
        (chardev.listener, "listener"),
    ];
    let ends = ends.into_iter().filter_map(|(fd, part)| fd.map(|fd| (fd, part)));
    let logs =
        chardev.logs.iter().flat_map(|log| std::iter::once(log.file).chain(log.older.clone()));
    let all: Vec<_> = ends.chain(logs.map(|fd| (fd, "log"))).collect();
    all.into_iter().map(move |(fd, part)| (fd, format!("{part} of {id}")))
}
