//! The emulated host: a Linux with a real `/dev/kvm` (AMD SVM with nested paging, emulated by
//! QEMU) on any machine. One instance per name; the first to ask boots it, the others share it.
//!
//! ```text
//! test ──TCP, loopback──→ QEMU ──→ agent (PID 1's child) ──→ manor ──→ /dev/kvm ──→ guests
//! ```

mod client;
mod heartbeat;
mod image;
mod instance;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use client::{Command, Output, Running};
pub use instance::{Status, status};
pub use testbed_agent::wire::Outcome;

use crate::qemu;

/// How long an instance started for tests outlives the last of them, should nobody stop it.
const IDLE: Duration = Duration::from_secs(600);

/// The emulated host's kernel ended: QEMU or the emulation is at fault more often than Manor.
/// Never a pass, and reported apart from failures.
#[derive(Debug, thiserror::Error)]
#[error(
    "host crash: the emulated host {name:?} is gone ({reason}); the end of {console:?}:\n{tail}"
)]
pub struct HostCrash {
    pub name: String,
    pub reason: String,
    pub console: PathBuf,
    pub tail: String,
}

/// Whether this machine's own KVM carries the hosts, which are then no emulation.
pub fn is_accelerated() -> bool {
    std::env::var("MANOR_TESTBED_ACCEL").is_ok_and(|accel| accel == "kvm")
}

/// Why the guests of no host here can start by UEFI firmware.
pub fn lacking_uefi() -> anyhow::Result<Option<String>> {
    if is_accelerated() {
        return Ok(None);
    }
    match qemu::mended() {
        Ok(_) => Ok(None),
        Err(error) => match error.downcast_ref::<qemu::Unmendable>() {
            Some(why) => Ok(Some(format!(
                "SKIP: QEMU ends in UEFI firmware, and Debian's is not the one that can be mended: {why}"
            ))),
            None => Err(error),
        },
    }
}

/// A running emulated host.
#[derive(Debug, Clone)]
pub struct Testbed {
    instance: instance::Instance,
}

/// How to start one.
#[derive(Debug, Clone)]
pub struct Options {
    pub name: String,
    pub memory_mib: u32,
    /// Power off after this long without a connection; zero is never.
    pub idle: Duration,
    /// Besides the scratch disk at /mnt/scratch, which every instance has.
    pub disks: Vec<Disk>,
    /// Disks for guests, found as `/dev/disk/NAME` (at most fifteen bytes). What is written to them
    /// is forgotten with the instance.
    pub guest_disks: Vec<Disk>,
    /// An ext4 image whose own init runs the host; this instance writes to a copy of it, which
    /// [`Testbed::reboot`] keeps. Without one the root is memory and the agent is PID 1.
    pub root: Option<PathBuf>,
    /// Its guests may start by UEFI firmware, for which QEMU has to be mended.
    pub uefi: bool,
}

/// An ext4 image, mounted read-only at `/mnt/NAME`, where it is not a guest's.
#[derive(Debug, Clone)]
pub struct Disk {
    /// At most twenty bytes: it travels as the disk's serial number.
    pub name: String,
    pub image: PathBuf,
}

impl Options {
    pub fn named(name: &str) -> Options {
        Options {
            name: name.to_owned(),
            memory_mib: 4096,
            idle: Duration::ZERO,
            disks: Vec::new(),
            guest_disks: Vec::new(),
            root: None,
            uefi: false,
        }
    }

    /// The instance that all tests of a run share; `MANOR_TESTBED` names another.
    pub fn shared() -> Options {
        let name = std::env::var("MANOR_TESTBED").unwrap_or_else(|_| "test".to_owned());
        Options { idle: IDLE, ..Options::named(&name) }
    }
}

impl Testbed {
    /// The shared instance with the `manor` binary at `/usr/bin/manor`.
    pub fn get() -> anyhow::Result<Testbed> {
        let testbed = Testbed::up(&Options::shared())?;
        testbed.put(&crate::manor_binary()?, "/usr/bin/manor")?;
        Ok(testbed)
    }

    /// Boots the instance, or finds it running.
    pub fn up(options: &Options) -> anyhow::Result<Testbed> {
        Ok(Testbed { instance: instance::up(options)? })
    }

    /// The instance of this name if it is running.
    pub fn running(name: &str) -> anyhow::Result<Testbed> {
        Ok(Testbed { instance: instance::running(name)? })
    }

    /// Ends it; nothing is left behind. Fine when it is not running.
    pub fn down(name: &str) -> anyhow::Result<()> {
        instance::down(name)
    }

    /// Shuts the host down in order and boots it again, with the disks as it left them.
    pub fn reboot(&self) -> anyhow::Result<()> {
        self.instance.reboot()
    }

    /// Pulls the host's plug and boots it again.
    pub fn power_cycle(&self) -> anyhow::Result<()> {
        self.instance.power_cycle()
    }

    /// Runs a command to its end and returns what it wrote.
    pub fn exec(&self, argv: &[&str]) -> anyhow::Result<Output> {
        self.command(argv).output()
    }

    /// Runs a shell script to its end; any status but 0 is an error that shows its output.
    pub fn sh(&self, script: &str) -> anyhow::Result<String> {
        self.exec(&["/bin/sh", "-euc", script])?.success()
    }

    /// A command to be given input, a time limit or an environment.
    pub fn command(&self, argv: &[&str]) -> Command<'_> {
        Command::new(&self.instance, argv)
    }

    /// Starts a command that runs until its handle is dropped, or it ends.
    pub fn spawn(&self, argv: &[&str]) -> anyhow::Result<Running> {
        self.command(argv).spawn()
    }

    /// Copies a file in, unless the same contents were put there before.
    pub fn put(&self, local: &Path, remote: &str) -> anyhow::Result<()> {
        client::put(&self.instance, local, remote)
    }

    /// Writes a small file inside.
    pub fn write(&self, remote: &str, contents: &[u8]) -> anyhow::Result<()> {
        client::put_bytes(&self.instance, contents, 0o644, remote)
    }

    /// Reads a file inside.
    pub fn read(&self, remote: &str) -> anyhow::Result<Vec<u8>> {
        client::get(&self.instance, remote)
    }

    /// The HTTP API of a daemon inside that listens on loopback's port 7000.
    pub fn api(&self) -> crate::Api {
        crate::Api::on(self.http_port())
    }

    /// The loopback port outside that leads to port 7000 inside.
    pub fn http_port(&self) -> u16 {
        self.instance.http_port
    }
}
