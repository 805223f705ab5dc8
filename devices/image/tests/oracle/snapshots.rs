//! Internal snapshots, made by us and by qemu-img, each judged and undone by the other.

use image::SnapshotInfo;
use image::qcow2::{self, CreateOptions, NewSnapshot, OpenOptions, Qcow2, SnapshotRef};

use crate::qcow2::{create, is_clean, open};
use crate::rig::{Random, Rig, exercise, same};

const SIZE: u64 = 5859 * 512;

fn shapes() -> Vec<CreateOptions> {
    let base = CreateOptions::new(SIZE);
    vec![
        base.clone(),
        CreateOptions { version: 2, ..base.clone() },
        CreateOptions { cluster_size: 512, refcount_bits: 8, ..base.clone() },
        CreateOptions { cluster_size: 4096, refcount_bits: 64, ..base.clone() },
        CreateOptions { cluster_size: 2 << 20, ..base.clone() },
        CreateOptions { extended_l2: true, ..base },
    ]
}

/// What qemu-img shows of a snapshot.
fn seen(rig: &Rig, name: &str) -> Vec<u8> {
    rig.img(&format!("convert -l snapshot.name={name} -O raw disk then"));
    std::fs::read(rig.path("then")).unwrap()
}

fn listed(rig: &Rig) -> Vec<SnapshotInfo> {
    qcow2::describe(&*rig.file("disk")).unwrap().snapshots
}

#[test]
fn what_we_make_qemu_img_lists_applies_and_deletes() {
    for (seed, options) in (1..).zip(shapes()) {
        let rig = Rig::new();
        create(&rig, "disk", &options);
        let (mut random, mut model) = (Random(seed), vec![0; SIZE as usize]);
        let mut kept = Vec::new();
        for name in ["first", "second", "third"] {
            let disk = open(&rig, "disk");
            exercise(&disk, &mut model, &mut random, 40);
            disk.create_snapshot(&NewSnapshot::now(name)).unwrap();
            exercise(&disk, &mut model.clone(), &mut random, 20);
            disk.apply_snapshot(SnapshotRef::Name(name)).unwrap();
            same(&disk, &model);
            drop(disk);
            is_clean(&rig, "disk");
            kept.push((name, model.clone()));
        }
        let list = rig.img("snapshot -l disk");
        for (name, was) in &kept {
            assert!(list.contains(name), "{list}");
            assert!(seen(&rig, name) == *was, "{options:?}");
        }
        rig.img("snapshot -a first disk");
        is_clean(&rig, "disk");
        assert!(rig.converted("qcow2", "disk") == kept[0].1);
        rig.img("snapshot -d second disk");
        is_clean(&rig, "disk");
        let disk = open(&rig, "disk");
        same(&disk, &kept[0].1);
        disk.apply_snapshot(SnapshotRef::Name("third")).unwrap();
        disk.delete_snapshot(SnapshotRef::Name("first")).unwrap();
        exercise(&disk, &mut model, &mut random, 40);
        drop(disk);
        is_clean(&rig, "disk");
        assert!(rig.converted("qcow2", "disk") == model, "{options:?}");
        assert!(seen(&rig, "third") == kept[2].1, "{options:?}");
    }
}

#[test]
fn what_qemu_img_makes_we_list_apply_and_delete() {
    for (seed, options) in (1..).zip([
        "compat=0.10",
        "extended_l2=on",
        "cluster_size=4k,refcount_bits=8",
        "lazy_refcounts=on,compression_type=zstd",
    ]) {
        let rig = Rig::new();
        let (mut random, mut model) = (Random(seed), vec![0; SIZE as usize]);
        // Compressed clusters have users, too.
        for (at, byte) in model.iter_mut().enumerate() {
            *byte = b"abcdefgh"[at / 700 % 8];
        }
        std::fs::write(rig.path("raw"), &model).unwrap();
        rig.img(&format!("convert -c -f raw -O qcow2 -o {options} raw disk"));
        let mut kept = Vec::new();
        for name in ["first", "second", "third"] {
            let disk = open(&rig, "disk");
            exercise(&disk, &mut model, &mut random, 40);
            drop(disk);
            rig.img(&format!("snapshot -c {name} disk"));
            kept.push((name, model.clone()));
        }
        let info: Vec<_> = listed(&rig).into_iter().map(|it| (it.id, it.name, it.size)).collect();
        let all = [("1", "first"), ("2", "second"), ("3", "third")];
        assert_eq!(info, all.map(|(id, name)| (id.into(), name.into(), SIZE)));
        let disk = open(&rig, "disk");
        for (name, was) in [&kept[1], &kept[0], &kept[2]] {
            exercise(&disk, &mut model, &mut random, 20);
            disk.apply_snapshot(SnapshotRef::Name(name)).unwrap();
            model.clone_from(was);
            same(&disk, &model);
        }
        disk.delete_snapshot(SnapshotRef::Name("first")).unwrap();
        exercise(&disk, &mut model, &mut random, 40);
        drop(disk);
        is_clean(&rig, "disk");
        assert!(seen(&rig, "second") == kept[1].1 && seen(&rig, "third") == kept[2].1);
        let disk = open(&rig, "disk");
        disk.delete_snapshot(SnapshotRef::Name("third")).unwrap();
        disk.delete_snapshot(SnapshotRef::Name("second")).unwrap();
        drop(disk);
        is_clean(&rig, "disk");
        assert!(rig.converted("qcow2", "disk") == model, "{options}");
    }
}

/// The table's entries of others come through as they are, down to the instruction count.
#[test]
fn what_we_do_not_know_of_a_snapshot_stays_in_the_table() {
    let rig = Rig::new();
    create(&rig, "disk", &CreateOptions::new(SIZE));
    rig.img("snapshot -c theirs disk");
    let file = rig.file("disk");
    let mut place = [0; 8];
    file.read(&mut place, 64).unwrap();
    let table = u64::from_be_bytes(place);
    // Size of the saved state, and instructions.
    file.write(&77_u32.to_be_bytes(), table + 32).unwrap();
    file.write(&77_u64.to_be_bytes(), table + 40).unwrap();
    file.write(&123_456_u64.to_be_bytes(), table + 56).unwrap();
    let disk = open(&rig, "disk");
    disk.create_snapshot(&NewSnapshot::now("ours")).unwrap();
    drop(disk);
    let all = listed(&rig);
    assert_eq!((all[0].vm_state_size, all[0].icount), (77, Some(123_456)));
    assert_eq!((all[1].vm_state_size, all[1].icount), (0, None));
    let list = rig.img("snapshot -l disk");
    assert!(list.contains("77 B") && list.contains("123456"), "{list}");
}

#[test]
fn an_overlay_and_its_snapshots_show_what_lies_below() {
    let rig = Rig::new();
    create(&rig, "base", &CreateOptions::new(SIZE));
    let base = open(&rig, "base");
    let (mut random, mut model) = (Random(21), vec![0; SIZE as usize]);
    exercise(&base, &mut model, &mut random, 40);
    drop(base);
    rig.img("create -f qcow2 -b base -F qcow2 disk");
    let over = || {
        let options = OpenOptions { read_only: true, ..OpenOptions::default() };
        let below = Qcow2::open(rig.file("base"), options).unwrap();
        let backing: Option<std::sync::Arc<dyn image::Image>> = Some(std::sync::Arc::new(below));
        Qcow2::open(rig.file("disk"), OpenOptions { backing, ..OpenOptions::default() }).unwrap()
    };
    let disk = over();
    exercise(&disk, &mut model, &mut random, 40);
    disk.create_snapshot(&NewSnapshot::now("one")).unwrap();
    let one = model.clone();
    exercise(&disk, &mut model, &mut random, 40);
    disk.create_snapshot(&NewSnapshot::now("two")).unwrap();
    disk.apply_snapshot(SnapshotRef::Name("one")).unwrap();
    same(&disk, &one);
    disk.apply_snapshot(SnapshotRef::Name("two")).unwrap();
    same(&disk, &model);
    disk.delete_snapshot(SnapshotRef::Name("two")).unwrap();
    drop(disk);
    is_clean(&rig, "disk");
    assert!(rig.converted("qcow2", "disk") == model);
    let report = qcow2::check(&*rig.file("base"), qcow2::Repair::Nothing).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0));
}
