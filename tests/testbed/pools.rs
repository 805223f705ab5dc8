//! Pools that lie on devices and volume groups, and seeds for cloud-init, with a real kernel's file
//! systems and Debian's LVM.

use anyhow::{Context, Result, ensure};
use manor_tests::testbed::{Disk, Options};
use manor_tests::{Testbed, disk, guest};

use crate::rig::{Daemon, Xml};

const DIR: &str = "/mnt/scratch/pools";
/// Programs of Debian's packages, each as an installed one, which needs nothing in front of it.
const TOOLS: [&str; 6] = [
    "/sbin/dmsetup",
    "/sbin/lvm",
    "/sbin/mount.nfs",
    "/usr/sbin/exportfs",
    "/usr/sbin/rpc.mountd",
    "/usr/sbin/rpc.nfsd",
];
const TREE: &str = "/mnt/pool-tools";
const LVM_CONF: &str = "activation { udev_sync=0 udev_rules=0 }
devices { obtain_device_list_from_udev=0 use_devicesfile=0 }
";

/// A host with LVM and the device mapper, called so.
pub(crate) fn daemon(name: &str) -> Result<Daemon> {
    // Of a run that failed.
    Testbed::down(name)?;
    let tools = disk::of_packages("pool-tools", &["lvm2", "nfs-kernel-server"])?;
    let host = Testbed::up(&Options {
        disks: vec![Disk { name: "pool-tools".to_owned(), image: tools }],
        ..Options::named(name)
    })?;
    host.put(&manor_tests::manor_binary()?, "/usr/bin/manor")?;
    host.put(&guest::kernel()?, "/guest/vmlinuz")?;
    host.put(&guest::initrd()?, "/guest/initrd")?;
    for tool in TOOLS {
        let script = format!(
            "#!/bin/sh
export LVM_SYSTEM_DIR=/run/lvm
libraries={TREE}/lib/x86_64-linux-gnu:{TREE}/usr/lib/x86_64-linux-gnu
exec {TREE}/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path $libraries {TREE}{tool} \"$@\"
"
        );
        host.write(tool, script.as_bytes())?;
        host.sh(&format!("chmod +x {tool}"))?;
    }
    host.write("/run/lvm/lvm.conf", LVM_CONF.as_bytes())?;
    host.sh(&format!(
        "modprobe loop; modprobe dm_mod; modprobe isofs; mkdir -p {DIR}
         for n in 0 1; do
             test -e {DIR}/device$n || truncate -s 256M {DIR}/device$n
             losetup /dev/loop$n 2>/dev/null || losetup /dev/loop$n {DIR}/device$n
         done"
    ))?;
    Daemon::start_on(host, name)
}

#[test]
fn pools_are_mounted_and_activated_and_guests_use_what_is_in_them() -> Result<()> {
    let daemon = daemon("pools")?;
    file_system(&daemon).context("a pool of type='fs'")?;
    network_file_system(&daemon).context("a pool of type='netfs'")?;
    volume_group(&daemon).context("a pool of type='logical'")?;
    seed(&daemon).context("a seed for cloud-init")?;
    Testbed::down("pools")
}

fn file_system(daemon: &Daemon) -> Result<()> {
    let mounts = || daemon.host.sh(&format!("grep {DIR}/fs /proc/mounts || true"));
    daemon.manor(&format!("pool-define-as fs fs --source-dev /dev/loop0 --target {DIR}/fs"))?;
    daemon.manor("pool-build fs")?;
    let text = daemon.refused("pool-start fs")?;
    ensure!(text.contains("no file system that the kernel knows"), "{text}");
    daemon.host.sh("mke2fs -q /dev/loop0 || mkfs.ext2 /dev/loop0")?;
    daemon.manor("pool-start fs")?;
    ensure!(mounts()?.contains("/dev/loop0"), "{}", mounts()?);
    daemon.manor("vol-create-as fs web.qcow2 1G --format qcow2")?;
    daemon.host.sh(&format!("sleep 1000 <{DIR}/fs/web.qcow2 >/dev/null & echo $! >/run/holder"))?;
    let text = daemon.refused("pool-destroy fs")?;
    ensure!(text.contains("in use"), "{text}");
    daemon.host.sh("kill $(cat /run/holder); sleep 1")?;
    daemon.kill_9()?;
    daemon.launch()?;
    daemon.api.await_ready(crate::rig::SHORT)?;
    ensure!(daemon.manor("vol-list fs")?.contains("web.qcow2"), "it is active still");
    daemon.manor("pool-destroy fs")?;
    ensure!(mounts()?.is_empty(), "{}", mounts()?);
    Ok(())
}

/// The kernel's own server, on the loopback device.
fn network_file_system(daemon: &Daemon) -> Result<()> {
    let mounts = || daemon.host.sh(&format!("grep {DIR}/nfs /proc/mounts || true"));
    daemon.manor(&format!(
        "pool-define-as nas netfs --source-host 127.0.0.1 --source-path /export --target {DIR}/nfs"
    ))?;
    daemon.manor("pool-build nas")?;
    let text = daemon.refused("pool-start nas")?;
    ensure!(text.contains("127.0.0.1:/export") && mounts()?.is_empty(), "nobody serves it: {text}");
    daemon.host.sh(&format!(
        "modprobe nfs; modprobe nfsd; mkdir -p /var/lib/nfs/v4recovery {DIR}/exported /export
         touch /var/lib/nfs/etab /var/lib/nfs/rmtab
         mount --bind {DIR}/exported /export
         mount -t nfsd nfsd /proc/fs/nfsd
         echo 127.0.0.1 localhost >/etc/hosts
         echo nfs 2049/tcp >/etc/services
         echo '/export *(rw,no_root_squash,insecure,no_subtree_check,fsid=7)' >/etc/exports
         exportfs -a
         rpc.mountd -N 2 -N 3 --no-udp
         rpc.nfsd -N 3 --no-udp 2
         echo Y >/proc/fs/nfsd/v4_end_grace"
    ))?;
    daemon.manor("pool-start nas")?;
    let there = mounts()?;
    ensure!(there.contains("127.0.0.1:/export") && there.contains("nosuid"), "{there}");
    daemon.manor("vol-create-as nas web.qcow2 64M --format qcow2")?;
    let exported = daemon.host.sh(&format!("manor image info {DIR}/exported/web.qcow2"))?;
    ensure!(exported.contains("64 MiB"), "{exported}");
    let mut xml = Xml::new("nas", "manor.disk=vda manor.end=shell");
    xml.devices.push_str(
        "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/>\
         <source pool='nas' volume='web.qcow2'/><target dev='vda' bus='virtio'/></disk>",
    );
    daemon.define_and_start(&xml)?;
    daemon.api.console("nas")?.expect("MANOR-DISK-OK", crate::rig::LONG)?;
    let text = daemon.refused("pool-destroy nas")?;
    ensure!(text.contains("in use"), "{text}");
    daemon.manor("destroy nas")?;
    let check = daemon.host.sh(&format!("manor image check {DIR}/exported/web.qcow2"))?;
    ensure!(check.contains("No errors"), "{check}");
    daemon.manor("vol-delete web.qcow2 --pool nas")?;
    daemon.manor("pool-destroy nas")?;
    ensure!(mounts()?.is_empty(), "{}", mounts()?);
    daemon.host.sh("exportfs -ua; rpc.nfsd 0")?;
    Ok(())
}

fn volume_group(daemon: &Daemon) -> Result<()> {
    daemon.manor("pool-define-as vg0 logical --source-dev /dev/loop1")?;
    daemon.manor("pool-build vg0")?;
    daemon.manor("pool-start vg0")?;
    daemon.manor("vol-create-as vg0 web 32M")?;
    daemon.manor("vol-resize web 64M --pool vg0")?;
    let text = daemon.refused("vol-create-as vg0 large 10G")?;
    ensure!(text.contains("insufficient free space"), "{text}");
    group_of_the_system(daemon).context("a group on which the host's system lies")?;
    daemon.host.sh(&format!("dd if=/dev/urandom of={DIR}/image bs=1M count=8 2>/dev/null"))?;
    daemon.manor(&format!("vol-upload web {DIR}/image --pool vg0"))?;

    let mut xml = Xml::new("pools", "manor.end=shell");
    xml.devices.push_str(
        "<disk type='volume' device='disk'><driver name='qemu' type='raw' cache='none'/>\
         <source pool='vg0' volume='web'/><target dev='vda' bus='virtio'/></disk>",
    );
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell("pools")?;
    let seen =
        shell.run("dd if=/dev/vda bs=1M count=8 2>/dev/null | md5sum; cat /sys/block/vda/size")?;
    let image = daemon.host.sh(&format!("md5sum <{DIR}/image"))?;
    let hash = image.split(' ').next().context("no hash")?;
    ensure!(seen.contains(hash) && seen.contains("131072"), "the guest sees {seen}, not {image}");
    let text = daemon.refused("vol-delete web --pool vg0")?;
    ensure!(text.contains("in use by domain \"pools\""), "{text}");
    ensure!(daemon.refused("pool-destroy vg0").is_ok(), "a group in use is kept");
    daemon.manor("destroy pools")?;
    daemon.manor("vol-clone web copy --pool vg0")?;
    let same = "cmp /dev/vg0/web /dev/vg0/copy; lvm lvs --noheadings -o lv_name vg0";
    let names = daemon.host.sh(same)?;
    ensure!(names.split_whitespace().eq(["copy", "web"]), "{names}");
    let text = daemon.refused("vol-clone web over --pool vg0 --overlay")?;
    ensure!(text.contains("block devices, and raw"), "{text}");
    daemon.manor("vol-delete copy --pool vg0")?;
    daemon.manor("vol-delete web --pool vg0")?;
    ensure!(!daemon.manor("vol-list vg0")?.contains("web"), "it is gone");
    daemon.manor("pool-destroy vg0")?;
    daemon.manor("pool-delete vg0")?;
    Ok(())
}

/// As `vg0` is while one of its volumes is mounted where programs are.
fn group_of_the_system(daemon: &Daemon) -> Result<()> {
    daemon.host.sh(
        "lvm lvcreate -qq -y -n app -L 32M vg0; mke2fs -q /dev/vg0/app || mkfs.ext2 /dev/vg0/app
         mkdir -p /opt/app /mnt/app; mount /dev/vg0/app /opt/app",
    )?;
    for act in ["vol-download web /run/web --pool vg0", "vol-resize web 48M --pool vg0"] {
        let text = daemon.refused(act)?;
        ensure!(
            text.contains("/opt/app of the host lies on the volume group vg0"),
            "{act}: {text}"
        );
        ensure!(text.contains("[files] allow = [\"/dev/vg0\"]"), "{act}: {text}");
    }
    // Where guests' things lie, it is no system's.
    daemon.host.sh("umount /opt/app; mount /dev/vg0/app /mnt/app")?;
    daemon.manor("vol-download web /run/web --pool vg0")?;
    daemon.manor("vol-resize web 68M --pool vg0")?;
    daemon.manor("vol-resize web 64M --pool vg0 --shrink")?;
    daemon.host.sh("umount /mnt/app; lvm lvremove -qq -y vg0/app; rm /run/web")?;
    Ok(())
}

/// The kernel finds the files by each kind of name.
fn seed(daemon: &Daemon) -> Result<()> {
    let host = &daemon.host;
    host.write("/run/user-data", b"#cloud-config\npassword: x\n")?;
    host.write("/run/network", b"version: 2\n")?;
    host.write("/run/seed.xml", Xml::new("seed", "manor.end=shell").text().as_bytes())?;
    daemon
        .manor("define /run/seed.xml --cloud-init /run/user-data --network-config /run/network")?;
    for options in ["ro", "ro,norock"] {
        let files = host.sh(&format!(
            "mkdir -p /run/seed; losetup /dev/loop2 {}/state/cloud-init/*.iso
             mount -t iso9660 -o {options} /dev/loop2 /run/seed
             ls /run/seed; cat /run/seed/user-data /run/seed/meta-data
             umount /run/seed; losetup -d /dev/loop2",
            daemon.dir
        ))?;
        ensure!(
            files.starts_with("meta-data\nnetwork-config\nuser-data\n#cloud-config\n"),
            "{files}"
        );
        ensure!(files.contains("local-hostname: \"seed\""), "{files}");
    }
    daemon.manor("undefine seed")?;
    Ok(())
}
