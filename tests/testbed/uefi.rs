//! UEFI firmware, on an emulated host of its own, whose QEMU bears it.

use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use manor_tests::apt::Release;
use manor_tests::testbed::{Disk, Options, Running};
use manor_tests::{Testbed, firmware, installed, manor_binary, testbed};

const HOST: &str = "uefi";
/// Firmware takes a quarter of a minute here, a busy machine ten times that.
const PATIENCE: Duration = Duration::from_secs(600);

/// The firmware's own shell, which it starts where there is no disk.
const SHELL: &str = "BdsDxe: starting Boot0001 \"EFI Internal Shell\"";

const FLASH: &str = "<loader readonly='yes' type='pflash'>/guest/code.fd</loader>
    <nvram template='/guest/vars.fd'>/guest/nvram.fd</nvram>";

const DISK: &str = "<disk type='block'><driver name='qemu' type='raw' cache='none'/>
      <source dev='/dev/disk/debian'/><target dev='vda' bus='virtio'/></disk>";

fn definition(machine: &str, loader: &str, cpus: u32, devices: &str) -> String {
    format!(
        "<domain type='kvm'>
  <name>uefi</name>
  <uuid>0b4a1c6e-3333-4a6b-9d5e-000000000001</uuid>
  <memory unit='MiB'>256</memory>
  <vcpu>{cpus}</vcpu>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>
    {loader}
  </os>
  <features><acpi/></features>
  <cpu mode='host-passthrough'/>
  <devices>
    <memballoon model='none'/>
    <serial type='pty'><target port='0'/></serial>
    <console type='pty'><target type='serial' port='0'/></console>
    {devices}
  </devices>
</domain>
"
    )
}

/// The tests use it one after another.
static TURN: Mutex<()> = Mutex::new(());

struct Host {
    testbed: Testbed,
    _turn: MutexGuard<'static, ()>,
}

impl Host {
    /// With this release's firmware; none, and said so, where QEMU would not bear it.
    fn with(release: Release) -> Result<Option<Host>> {
        if let Some(skip) = testbed::lacking_uefi()? {
            println!("{skip}");
            return Ok(None);
        }
        let debian = Disk { name: "debian".into(), image: installed::debian()? };
        let options = Options {
            memory_mib: 1024,
            uefi: true,
            guest_disks: vec![debian],
            ..Options::named(HOST)
        };
        let [code, variables] = firmware::ovmf_of(release)?;
        let whole = firmware::ovmf_whole(release)?;
        let manor = manor_binary()?;
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let host = Host { testbed: Testbed::up(&options)?, _turn: turn };
        host.put(&manor, "/usr/bin/manor")?;
        host.put(&code, "/guest/code.fd")?;
        host.put(&variables, "/guest/vars.fd")?;
        host.put(&whole, "/guest/whole.fd")?;
        Ok(Some(host))
    }
}

impl Deref for Host {
    type Target = Testbed;

    fn deref(&self) -> &Testbed {
        &self.testbed
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Testbed::down(HOST);
    }
}

/// Start it and wait until it says `text`.
fn start(host: &Host, definition: &str, text: &str) -> Result<Running> {
    host.write("/guest/uefi.xml", definition.as_bytes())?;
    let mut run = host.spawn(&["manor", "run", "/guest/uefi.xml"])?;
    run.expect(text, PATIENCE)?;
    Ok(run)
}

/// As far as the menu of the installed system's GRUB; `installed.rs` goes on to a login.
#[test]
fn ovmf_starts_an_installed_disks_grub_and_keeps_its_variables() -> Result<()> {
    let Some(host) = Host::with(Release::Bookworm)? else { return Ok(()) };
    let mut run = start(&host, &definition("q35", FLASH, 1, DISK), "Welcome to GRUB!")?;
    run.expect("*Debian", PATIENCE)?;
    drop(run);
    // The boot entry that it started by is a variable, named in UTF-16.
    let kept = host.read("/guest/nvram.fd")?;
    assert_eq!(kept.len(), host.read("/guest/vars.fd")?.len());
    let name: Vec<u8> = "Boot0001".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(kept.windows(name.len()).any(|bytes| bytes == name), "no boot entry was kept");
    Ok(())
}

/// It resets by the reset register of the ACPI tables, and finds what it kept.
#[test]
#[ignore = "takes long: --all"]
fn ovmf_starts_two_processors_and_resets() -> Result<()> {
    let Some(host) = Host::with(Release::Bookworm)? else { return Ok(()) };
    let mut run = start(&host, &definition("q35", FLASH, 2, ""), SHELL)?;
    run.expect("Shell> ", PATIENCE)?;
    let before = run.text().len();
    run.input(b"reset\r")?;
    let begun = Instant::now();
    while !run.text()[before..].contains(SHELL) {
        ensure!(begun.elapsed() < PATIENCE, "it does not start again: {}", &run.text()[before..]);
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

#[test]
#[ignore = "takes long: --all"]
fn ovmf_starts_on_the_board_of_an_older_pc() -> Result<()> {
    let Some(host) = Host::with(Release::Bookworm)? else { return Ok(()) };
    start(&host, &definition("pc", FLASH, 1, ""), SHELL)?;
    Ok(())
}

#[test]
#[ignore = "takes long: --all"]
fn ovmf_starts_with_code_and_variables_in_one_image() -> Result<()> {
    let Some(host) = Host::with(Release::Bookworm)? else { return Ok(()) };
    let whole = "<loader type='rom'>/guest/whole.fd</loader>";
    start(&host, &definition("q35", whole, 1, ""), SHELL)?;
    Ok(())
}

#[test]
#[ignore = "takes long: --all"]
fn the_next_releases_ovmf_starts_its_shell() -> Result<()> {
    let Some(host) = Host::with(Release::Trixie)? else { return Ok(()) };
    start(&host, &definition("q35", FLASH, 1, ""), SHELL)?;
    Ok(())
}
