//! Debian's libvirtd with its QEMU as a peer inside the testbed: in a root of its own, that of its
//! packages, with the host's devices, processes and directories in it.

use std::path::PathBuf;

use crate::disk;
use crate::testbed::Testbed;

const PACKAGES: [&str; 3] = ["libvirt-daemon", "libvirt-clients", "qemu-system-x86"];
const ROOT: &str = "/run/libvirtd";

/// As a disk for the testbed, to be there at /mnt/libvirt.
pub fn peer() -> anyhow::Result<PathBuf> {
    disk::of_packages("peer-libvirt", &PACKAGES)
}

/// Starts it, unless it runs. `shared`: directories in which it finds what the host does.
pub fn start(host: &Testbed, shared: &[&str]) -> anyhow::Result<()> {
    let shared = shared.join(" ");
    host.sh(&format!(
        "! test -e {ROOT}/root/run/libvirt/libvirt-sock || exit 0
         modprobe overlay
         mkdir -p {ROOT}
         mount -t tmpfs libvirtd {ROOT}
         cd {ROOT}
         mkdir root upper work
         mount -t overlay overlay -o lowerdir=/mnt/libvirt,upperdir=upper,workdir=work root
         mkdir -p root/etc/libvirt root/run/lock root/tmp root/root root/var/log/libvirt
         ln -s /run root/var/run
         cp /etc/passwd /etc/group root/etc
         # Asked for before the settings are read.
         echo libvirt-qemu:x:64055:104::/:/bin/false >>root/etc/passwd
         echo libvirt-qemu:x:64055: >>root/etc/group
         echo 'auth_unix_rw = \"none\"' >root/etc/libvirt/libvirtd.conf
         printf '%s\n' 'user = \"root\"' 'group = \"root\"' 'security_driver = \"none\"' \
             'namespaces = []' 'cgroup_controllers = []' 'stdio_handler = \"file\"' \
             'remember_owner = 0' >root/etc/libvirt/qemu.conf
         for dir in /dev /proc /sys {shared}; do
             mkdir -p root$dir
             mount -o rbind $dir root$dir
         done
         for daemon in virtlogd libvirtd; do
             chroot root /usr/sbin/$daemon -d >log-$daemon 2>&1 || {{ cat log-$daemon; exit 1; }}
         done"
    ))?;
    // The first question makes it probe QEMU, several times.
    let probe = virsh("domcapabilities --machine q35 --virttype kvm");
    host.sh(&format!(
        "until {probe} >/dev/null 2>{ROOT}/probe; do
             i=$((${{i:-0}}+1)); [ $i -lt 30 ] || {{ cat {ROOT}/probe; exit 1; }}
             sleep 1
         done"
    ))?;
    Ok(())
}

/// A command line that has virsh do this.
#[must_use]
pub fn virsh(words: &str) -> String {
    format!("chroot {ROOT}/root /usr/bin/virsh --quiet --connect qemu:///system {words}")
}
