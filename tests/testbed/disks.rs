//! Disks on other buses than virtio's, under a stock kernel.

use anyhow::Result;
use manor_tests::testbed::Outcome;

use crate::rig::{Xml, host};
use crate::run::{run, word_after};

/// Debian's cloud kernel has no driver for SATA: SeaBIOS and bare-metal guests try that one.
#[test]
fn a_stock_kernel_writes_and_reads_disks_of_each_bus() -> Result<()> {
    let host = host()?;
    for (bus, dev) in [("nvme", "nvme0n1"), ("scsi", "sda")] {
        let file = format!("/mnt/scratch/bus-{bus}.img");
        host.sh(&format!("rm -f {file}; truncate -s 8M {file}"))?;
        let words = format!("manor.disk={dev} manor.blk={dev} manor.end=poweroff");
        let mut xml = Xml::new(&format!("bus-{bus}"), &words).disk(&file, dev, "");
        xml.devices = xml.devices.replace("bus='virtio'", &format!("bus='{bus}'"));
        xml.devices = xml.devices.replace("type='raw'", "type='raw' discard='unmap'");
        xml.vcpus = 2;
        let (outcome, text) = run(&host, &xml)?;
        assert_eq!(outcome, Outcome::Code(0), "{bus}: {text}");
        assert!(text.contains(&format!("MANOR-BLK {dev} sectors=16384 ro=0")), "{text}");
        let hash = word_after(&text, &format!("MANOR-DISK-OK {dev} "))?;
        let on_disk = host.sh(&format!("dd if={file} bs=4096 count=16 2>/dev/null | md5sum"))?;
        assert_eq!(on_disk.split(' ').next(), Some(hash), "{bus}");
    }
    Ok(())
}

#[test]
fn a_stock_kernel_reads_a_cdrom_and_finds_an_empty_drive() -> Result<()> {
    let host = host()?;
    let file = "/mnt/scratch/bus-cdrom.img";
    host.sh(&format!("dd if=/dev/urandom of={file} bs=1M count=4 2>/dev/null"))?;
    let mut xml =
        Xml::new("bus-cdrom", "manor.blk=sr0 manor.end=poweroff loglevel=6").disk(file, "sda", "");
    xml.devices = xml
        .devices
        .replace("device='disk'", "device='cdrom'")
        .replace("bus='virtio'", "bus='scsi'");
    xml.devices.push_str("<disk device='cdrom'><target dev='sdb' bus='scsi'/></disk>");
    let (outcome, text) = run(&host, &xml)?;
    assert_eq!(outcome, Outcome::Code(0), "{text}");
    assert!(text.contains("MANOR-BLK sr0 sectors=8192 ro="), "{text}");
    assert!(text.contains("sr 0:0:0:1"), "{text}");
    Ok(())
}
