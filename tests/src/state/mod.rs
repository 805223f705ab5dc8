//! What saving, restoring, snapshots and clones cost: a guest that prints ticks and answers pings,
//! once with Manor's verbs, once with QEMU alone, which is migrated to a file and back, and once with
//! libvirt's verbs. All are commanded by a shell inside, so the start of a client counts.

mod libvirt;
mod manor;
mod qemu;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;

use crate::testbed::Disk;
use crate::{Testbed, Xml, guest, libvirtd, manor_binary};

const DIR: &str = "/bench/state";
const DISK: &str = "/bench/state/disk.img";
const KERNEL: &str = "/bench/vmlinux";
const INITRD: &str = "/bench/initrd";
const MEMORY_MIB: u64 = 128;
const BRIDGE: &str = "br-saved";
/// QEMU alone makes none on a bridge.
const TAP: &str = "tap-saved";
const MAC: &str = "52:54:00:be:0c:02";
const HERE: &str = "10.78.1.1";
const THERE: &str = "10.78.1.2";
/// It takes a minute or two, and longer on a busy machine.
const LIMIT: Duration = Duration::from_secs(1200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Manor,
    Libvirt,
    Qemu,
}

/// In hundredths of a second: `save`, `running` and `output` of the restore, `snapshot`, `clone`. In
/// KiB on the disk: `kib`. Microseconds of the slowest answer to a ping: `rest`, `snapshot_pause`,
/// `clone_pause`, and of snapshots with memory `memory_pause` and, made `--live`, `live_pause`.
pub type Figures = BTreeMap<String, u64>;

const NAMES: [&str; 11] = [
    "save",
    "kib",
    "running",
    "output",
    "rest",
    "snapshot",
    "snapshot_pause",
    "clone",
    "clone_pause",
    "memory_pause",
    "live_pause",
];

/// What a host needs to have it, as its [`Options::disks`](crate::testbed::Options).
pub fn libvirt_disk() -> anyhow::Result<Disk> {
    Ok(Disk { name: "libvirt".into(), image: libvirtd::peer()? })
}

/// On a host with a disk for each peer: `qemu` and `libvirt`.
pub fn prepare(host: &Testbed, peers: &[Peer]) -> anyhow::Result<()> {
    host.put(&guest::vmlinux()?, KERNEL)?;
    host.put(&guest::initrd()?, INITRD)?;
    host.put(&manor_binary()?, "/usr/bin/manor")?;
    host.sh(&format!(
        "! test -d /sys/class/net/{BRIDGE} || exit 0
         ip link add {BRIDGE} type bridge
         ip addr add {HERE}/24 dev {BRIDGE}
         ip link set {BRIDGE} up
         tunctl -t {TAP}
         ip link set {TAP} master {BRIDGE} up"
    ))?;
    if peers.contains(&Peer::Libvirt) {
        libvirtd::start(host, &["/bench"])?;
    }
    Ok(())
}

pub fn measure(peer: Peer, host: &Testbed) -> anyhow::Result<Figures> {
    host.sh(&format!("rm -rf {DIR}; mkdir -p {DIR}; truncate -s 64M {DISK}"))?;
    let script = match peer {
        Peer::Manor => manor::script(host)?,
        Peer::Libvirt => libvirt::script(host)?,
        Peer::Qemu => qemu::script(),
    };
    let script = format!("{}{script}", tools());
    let text = host.command(&["/bin/sh", "-euc", &script]).timeout(LIMIT).output()?.success()?;
    let words = text.lines().filter_map(|line| line.split_once(' '));
    words
        .filter(|(name, _)| NAMES.contains(name))
        .map(|(name, value)| {
            let value = value.trim().parse().with_context(|| format!("{name} is {value:?}"))?;
            Ok((name.to_owned(), value))
        })
        .collect()
}

/// What all scripts need: hundredths of a second, a guest's output that grows, and how long it does
/// not answer at the most. Nothing that is timed starts a program for that.
fn tools() -> String {
    format!(
        "now() {{ read -r up _ </proc/uptime; echo ${{up%.*}}${{up#*.}}; }}
         took() {{ read -r up _ </proc/uptime; echo $1 $((${{up%.*}}${{up#*.}}-$2)); }}
         up() {{ until grep -q 'MANOR-TICK 5' {DIR}/out 2>/dev/null; do usleep 100000; done; }}
         read_all() {{ exec 3<{DIR}/out; cat <&3 >/dev/null; }}
         grown() {{ until read -r line <&3; do usleep 2000; done; }}
         pinged() {{ what=$1; shift
             ping -A -q {THERE} >{DIR}/pings 2>&1 & pings=$!
             usleep 500000; \"$@\"; usleep 500000
             kill -INT $pings; wait $pings || true
             max=$(sed -n 's,^round-trip.*/\\([0-9.]*\\) ms$,\\1,p' {DIR}/pings)
             echo $what ${{max%.*}}${{max#*.}}; }}
"
    )
}

fn words() -> String {
    format!("manor.blk=vda manor.ip={THERE}/24 manor.ping={HERE} manor.tick=20")
}

/// For both that take libvirt's XML.
fn definition() -> String {
    let text = guest().text();
    // The console that a test speaks to is a file here.
    let end = text.find("<serial").unwrap_or(text.len());
    format!(
        "{}<serial type='file'><source path='{DIR}/out' append='on'/><target port='0'/></serial>\
         </devices></domain>",
        &text[..end]
    )
}

fn guest() -> Xml {
    let mut xml = Xml::new("bench-state", &words());
    (xml.kernel, xml.initrd) = (KERNEL.into(), INITRD.into());
    xml.memory_mib = MEMORY_MIB;
    xml.disk(DISK, "vda", "").bridge(BRIDGE, MAC, "")
}
