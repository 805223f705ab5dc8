//! Volumes of a pool under a stock kernel.

use anyhow::{Context, Result, ensure};

use crate::rig::{Daemon, Xml};

const DIR: &str = "/mnt/scratch/storage";

#[test]
fn a_stock_guest_writes_to_a_volume_above_a_clone_of_an_image() -> Result<()> {
    let daemon = Daemon::start("storage")?;
    daemon.host.sh(&format!(
        "rm -rf {DIR}; mkdir {DIR}; dd if=/dev/urandom of={DIR}/image bs=1M count=8 2>/dev/null"
    ))?;
    let raw = "<volume><name>end.img</name><target><format type='raw'/></target></volume>";
    daemon.host.write(&format!("{DIR}/end.xml"), raw.as_bytes())?;
    let qcow2 = raw.replace("raw", "qcow2").replace("end.img", "base.qcow2");
    daemon.host.write(&format!("{DIR}/base.xml"), qcow2.as_bytes())?;
    for line in [
        &format!("pool-define-as images dir --target {DIR}/pool"),
        "pool-start images --build",
        "vol-create-as images image.img 8M --allocation 0",
        &format!("vol-upload image.img {DIR}/image --pool images"),
        &format!("vol-create-from images {DIR}/base.xml image.img"),
        "vol-clone base.qcow2 web.qcow2 --pool images --overlay",
    ] {
        daemon.manor(line)?;
    }
    let mut xml = Xml::new("storage", "manor.end=shell");
    xml.devices.push_str(
        "<disk type='volume' device='disk'><driver name='qemu' type='qcow2' cache='none'/>\
         <source pool='images' volume='web.qcow2'/><target dev='vda' bus='virtio'/></disk>",
    );
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell("storage")?;
    let image = daemon.host.sh(&format!("md5sum <{DIR}/image"))?;
    let seen = shell.run("md5sum </dev/vda")?;
    let hash = image.split(' ').next().context("no hash")?;
    ensure!(seen.contains(hash), "the guest sees {seen}, and the image is {hash}");
    let written = shell.run(
        "dd if=/dev/urandom of=/dev/vda bs=64k count=16 seek=40 2>/dev/null; sync; md5sum </dev/vda",
    )?;
    // In use as long as the guest runs, with what lies below it.
    for line in ["vol-delete web.qcow2", "vol-resize web.qcow2 16M", "vol-wipe web.qcow2"] {
        let text = daemon.refused(&format!("{line} --pool images"))?;
        ensure!(text.contains("in use by domain \"storage\""), "{line}: {text}");
    }
    let text = daemon.refused("vol-delete base.qcow2 --pool images")?;
    ensure!(text.contains("lies below volume \"web.qcow2\""), "{text}");
    ensure!(daemon.manor("dumpxml storage")?.contains("pool='images' volume='web.qcow2'"));
    daemon.manor("destroy storage")?;
    daemon.manor(&format!("vol-create-from images {DIR}/end.xml web.qcow2"))?;
    let end = daemon.host.sh(&format!("md5sum <{DIR}/pool/end.img"))?;
    let hash = end.split(' ').next().context("no hash")?;
    ensure!(written.contains(hash), "the guest wrote {written}, and there is {hash}");
    // What lies below was not written to.
    daemon.manor(&format!("vol-download image.img {DIR}/back --pool images"))?;
    daemon.host.sh(&format!("cmp {DIR}/image {DIR}/back"))?;
    Ok(())
}

#[test]
fn a_full_pool_says_so_and_keeps_nothing_half_made() -> Result<()> {
    let daemon = Daemon::start("storage-full")?;
    let dir = "/run/e2e/small-pool";
    daemon.host.sh(&format!("mkdir -p {dir}; mount -t tmpfs -o size=4m none {dir}"))?;
    daemon.manor(&format!("pool-define-as small dir --target {dir}"))?;
    daemon.manor("pool-start small")?;
    let text = daemon.refused("vol-create-as small big.img 64M")?;
    ensure!(text.contains("the pool is full"), "{text}");
    daemon.manor("vol-create-as small sparse.img 64M --allocation 0")?;
    daemon.host.sh("dd if=/dev/urandom of=/run/e2e/big bs=1M count=8 2>/dev/null")?;
    let text = daemon.refused("vol-upload sparse.img /run/e2e/big --pool small")?;
    ensure!(text.contains("the pool is full"), "{text}");
    let left = daemon.host.sh(&format!("ls -A {dir}"))?;
    ensure!(left.trim() == "sparse.img", "left over: {left}");
    daemon.manor("vol-delete sparse.img --pool small")?;
    daemon.manor("vol-create-as small fits.img 1M")?;
    daemon.manor("pool-destroy small")?;
    daemon.host.sh(&format!("umount {dir}; rm -r {dir}"))?;
    let text = daemon.refused("pool-start small")?;
    ensure!(text.contains(dir) && text.contains("does not exist"), "{text}");
    Ok(())
}
