//! A guest writes the header of an image into its raw disk, and is given nothing of what that names:
//! not after a reset, a resize, a snapshot or another start, whatever became of its definition.

use std::os::unix::fs::FileExt as _;

use super::guests::{self, ok};
use super::rig::Rig;

const MIB: u64 = 1 << 20;

/// A qcow2 header that has `victim` below it, and the first line of a VMDK's description.
fn headers(victim: &str) -> [Vec<u8>; 2] {
    let mut options = image::qcow2::CreateOptions::new(MIB);
    let format = Some("raw".to_owned());
    options.backing = Some(image::Reference { name: victim.to_owned(), format });
    let memory = image::MemoryStorage::default();
    image::qcow2::create(&memory, &options).unwrap();
    let mut qcow2 = vec![0; 65536];
    image::Storage::read(&memory, &mut qcow2, 0).unwrap();
    let vmdk = format!(
        "# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 8 FLAT \"{victim}\" 0\n"
    );
    [qcow2, vmdk.into_bytes()]
}

fn define(rig: &Rig, driver: &str) {
    let disk = format!(
        "<disk type='file'>{driver}<source file='{}'/><target dev='vda' bus='virtio'/></disk>",
        rig.path("disk").display()
    );
    guests::write_echo_again(rig, &disk);
    ok(rig, &["define", "disk.xml"]);
}

/// The disk is as large as its file, and nothing lies below it.
fn is_raw(rig: &Rig, size: u64) {
    let live = ok(rig, &["dumpxml", "echo"]);
    assert!(live.contains("<driver name='qemu' type='raw'/>"), "{live}");
    assert!(!live.contains("victim"), "{live}");
    let info = ok(rig, &["domblkinfo", "echo", "vda"]);
    assert!(info.contains(&format!("Capacity:       {size}\n")), "{info}");
}

#[test]
fn a_header_in_a_raw_disk_is_data() {
    let Some(rig) = guests::defined() else { return };
    rig.write("victim", vec![7; MIB as usize]);
    let victim = rig.path("victim").display().to_string();
    for header in headers(&victim) {
        rig.write("disk", vec![0; MIB as usize]);
        define(&rig, "<driver name='qemu' type='raw'/>");
        ok(&rig, &["start", "echo"]);
        let disk = std::fs::File::options().write(true).open(rig.path("disk")).unwrap();
        disk.write_all_at(&header, 0).unwrap();
        ok(&rig, &["reset", "echo"]);
        is_raw(&rig, MIB);
        ok(&rig, &["blockresize", "echo", "vda", "2M"]);
        is_raw(&rig, 2 * MIB);
        for driver in ["<driver name='qemu' type='raw'/>", "<driver name='qemu'/>", ""] {
            ok(&rig, &["destroy", "echo"]);
            define(&rig, driver);
            ok(&rig, &["start", "echo"]);
            is_raw(&rig, 2 * MIB);
        }
        // What it lies below says that it is raw, for all time.
        ok(&rig, &["snapshot-create-as", "echo", "one", "--disk-only"]);
        let above = std::fs::File::open(rig.path("disk.one")).unwrap();
        let above = image::FileStorage::new(above).unwrap();
        let below = image::qcow2::describe(&above).unwrap().backing.unwrap();
        assert_eq!(below.format.as_deref(), Some("raw"));
        ok(&rig, &["destroy", "echo"]);
        ok(&rig, &["start", "echo"]);
        assert!(!ok(&rig, &["dumpxml", "echo"]).contains("victim"));
        ok(&rig, &["destroy", "echo"]);
        ok(&rig, &["snapshot-delete", "echo", "one", "--metadata"]);
        std::fs::remove_file(rig.path("disk.one")).unwrap();
        let mut kept = vec![0; header.len()];
        std::fs::File::open(rig.path("disk")).unwrap().read_exact_at(&mut kept, 0).unwrap();
        assert!(kept == header, "the disk is the guest's");
    }
    assert!(std::fs::read(rig.path("victim")).unwrap() == vec![7; MIB as usize]);
}
