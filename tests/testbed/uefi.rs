//! UEFI firmware, on an emulated host of its own that is slow enough not to trip over it.

use std::time::Duration;

use anyhow::Result;
use manor_tests::testbed::Options;
use manor_tests::{Testbed, firmware, manor_binary};

const HOST: &str = "uefi";
const PATIENCE: Duration = Duration::from_secs(840);

const XML: &str = "<domain type='kvm'>
  <name>uefi</name>
  <uuid>0b4a1c6e-3333-4a6b-9d5e-000000000001</uuid>
  <memory unit='MiB'>256</memory>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <loader readonly='yes' type='pflash'>/guest/code.fd</loader>
    <nvram template='/guest/vars.fd'>/guest/nvram.fd</nvram>
  </os>
  <features><acpi/></features>
  <cpu mode='host-passthrough'/>
  <devices>
    <memballoon model='none'/>
    <serial type='pty'><target port='0'/></serial>
    <console type='pty'><target type='serial' port='0'/></console>
  </devices>
</domain>
";

/// The shell is in the firmware, and what it boots without a disk.
#[test]
fn ovmf_starts_its_shell_and_keeps_its_variables() -> Result<()> {
    let options = Options { memory_mib: 1024, counted: true, ..Options::named(HOST) };
    let host = Testbed::up(&options)?;
    host.put(&manor_binary()?, "/usr/bin/manor")?;
    let [code, variables] = firmware::ovmf()?;
    host.put(&code, "/guest/code.fd")?;
    host.put(&variables, "/guest/vars.fd")?;
    host.write("/guest/uefi.xml", XML.as_bytes())?;
    host.sh("rm -f /guest/nvram.fd")?;
    let mut run = host.spawn(&["manor", "run", "/guest/uefi.xml"])?;
    run.expect("BdsDxe: starting Boot0001 \"EFI Internal Shell\"", PATIENCE)?;
    drop(run);
    // The boot entry that it started by is a variable, named in UTF-16.
    let kept = host.read("/guest/nvram.fd")?;
    assert_eq!(kept.len(), std::fs::metadata(&variables)?.len() as usize);
    let name: Vec<u8> = "Boot0001".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(kept.windows(name.len()).any(|bytes| bytes == name), "no boot entry was kept");
    Testbed::down(HOST)
}
