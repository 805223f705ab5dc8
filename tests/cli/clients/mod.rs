//! Programs that people drive libvirt with, as Debian ships them and as their packages leave them on a disk, against
//! Manor. They run in a root of their own ([`Userland`]), for they find their parts by absolute paths.

mod ansible;
mod desktop;
mod go;
mod install;
mod libraries;
mod metrics;
mod pacemaker;
mod session;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use manor_tests::apt::Release;
use manor_tests::userland::Userland;

use super::rig::Outcome;
use super::test_driver::Driver;

/// Makes the socket that is its first argument the one that clients find by themselves (`qemu:///system`).
const AT_SYSTEM: &str = r#"
mkdir -p /run/libvirt
ln -s "$1" /run/libvirt/libvirt-sock
if test -e "$1-ro"; then
    ln -s "$1-ro" /run/libvirt/libvirt-sock-ro
else
    ln -s "$1" /run/libvirt/libvirt-sock-ro
fi
shift
exec "$@"
"#;

/// Everything without a window. A test says why it is skipped where it cannot be had.
fn programs() -> Option<Userland> {
    userland(
        "client-programs",
        &[
            "collectd-core",
            "cpio",
            "dbus",
            "libsys-virt-perl",
            "libvirt-clients",
            "libvirt-dbus",
            "prometheus-libvirt-exporter",
            "resource-agents",
            "virtinst",
            "xorriso",
        ],
    )
}

fn userland(name: &str, packages: &[&str]) -> Option<Userland> {
    of_release(Release::Bookworm, name, packages)
}

fn of_release(release: Release, name: &str, packages: &[&str]) -> Option<Userland> {
    had(Userland::of(release, name, packages))
}

fn had(userland: anyhow::Result<Userland>) -> Option<Userland> {
    match userland {
        Ok(userland) => Some(userland),
        Err(error) => {
            println!("SKIP: {error:#}");
            None
        }
    }
}

/// A program to which `qemu:///system` is the daemon at this socket.
fn at_system(userland: &Userland, home: &Path, socket: &Path, words: &[&str]) -> Command {
    let socket = socket.display().to_string();
    let mut all = vec!["sh", "-c", AT_SYSTEM, "sh", &socket];
    all.extend(words);
    let mut command = userland.command(home, &all);
    command.stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Outcome {
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        status: output.status.code().unwrap_or(-1),
    }
}

/// What it prints, if it ends well.
fn said(command: Command) -> String {
    let words = format!("{command:?}");
    let outcome = run(command);
    assert_eq!(outcome.status, 0, "{words}: {}{}", outcome.out, outcome.err);
    outcome.out
}

/// By the socket of the test driver.
fn on(driver: &Driver, userland: &Userland, words: &[&str]) -> Command {
    let (_, socket) = driver.uri.split_once("socket=").unwrap();
    at_system(userland, driver.home(), Path::new(socket), words)
}

/// A program that ends with the test.
struct Running(Child);

impl Running {
    fn start(mut command: Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        Self(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // With the first process of its namespace go all others.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
