use std::sync::Arc;

use image::qcow2::{self, Compression, CreateOptions, NewSnapshot, OpenOptions, Qcow2, Repair};
use image::{Format, Image, Raw, Reference};

use crate::rig::{Random, Rig, exercise, same};

const SIZE: u64 = 5859 * 512;

pub(crate) fn open(rig: &Rig, name: &str) -> Qcow2 {
    Qcow2::open(rig.file(name), OpenOptions::default()).unwrap()
}

pub(crate) fn create(rig: &Rig, name: &str, options: &CreateOptions) {
    qcow2::create(&*rig.file(name), options).unwrap();
}

pub(crate) fn is_clean(rig: &Rig, name: &str) {
    let report = qcow2::check(&*rig.file(name), Repair::Nothing).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
    let output = rig.try_img(&format!("check -f qcow2 {name}"));
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

/// Every shape an image can have, by its options.
fn shapes() -> Vec<CreateOptions> {
    let base = CreateOptions::new(SIZE);
    let mut shapes = vec![base.clone(), CreateOptions { version: 2, ..base.clone() }];
    for cluster_size in [512, 4096, 2 << 20] {
        shapes.push(CreateOptions { cluster_size, ..base.clone() });
    }
    for refcount_bits in [1, 2, 4, 8, 32, 64] {
        shapes.push(CreateOptions { refcount_bits, cluster_size: 4096, ..base.clone() });
    }
    for cluster_size in [1 << 14, 1 << 16] {
        shapes.push(CreateOptions { extended_l2: true, cluster_size, ..base.clone() });
    }
    shapes.push(CreateOptions { lazy_refcounts: true, ..base.clone() });
    shapes.push(CreateOptions { compression: Compression::Zstd, ..base.clone() });
    shapes
}

#[test]
fn what_we_write_is_what_qemu_img_reads() {
    for (seed, options) in (1..).zip(shapes()) {
        let rig = Rig::new();
        create(&rig, "disk", &options);
        is_clean(&rig, "disk");
        let mut model = vec![0; SIZE as usize];
        let mut random = Random(seed);
        for _ in 0..3 {
            let disk = open(&rig, "disk");
            exercise(&disk, &mut model, &mut random, 60);
            drop(disk);
            is_clean(&rig, "disk");
        }
        assert!(rig.converted("qcow2", "disk") == model, "{options:?}");
    }
}

#[test]
fn what_lies_below_shows_through_and_stays_as_it_is() {
    for (seed, mut options) in (100..).zip(shapes()) {
        let rig = Rig::new();
        let mut random = Random(seed);
        // Of another size than what is above it, in both directions.
        let below_size = SIZE - 700_000 + random.below(1_400_000);
        let mut below = vec![0; below_size as usize];
        let base = rig.file("base.raw");
        base.set_len(below_size).unwrap();
        let raw = Raw::open(base, false).unwrap();
        exercise(&raw, &mut below, &mut random, 40);
        let format = Some("raw".to_owned());
        options.backing = Some(Reference { name: "base.raw".into(), format });
        create(&rig, "disk", &options);
        let mut model = below.clone();
        model.resize(SIZE as usize, 0);
        let raw: Arc<dyn Image> = Arc::new(Raw::open(rig.file("base.raw"), true).unwrap());
        let backed = OpenOptions { backing: Some(raw), ..OpenOptions::default() };
        let disk = Qcow2::open(rig.file("disk"), backed).unwrap();
        same(&disk, &model);
        exercise(&disk, &mut model, &mut random, 100);
        drop(disk);
        is_clean(&rig, "disk");
        assert!(rig.converted("qcow2", "disk") == model, "{options:?}");
        assert!(std::fs::read(rig.path("base.raw")).unwrap() == below);
    }
}

#[test]
fn a_data_file_holds_the_data() {
    for raw in [false, true] {
        let rig = Rig::new();
        let data_file = Some("data".to_owned());
        let options = CreateOptions { data_file, data_file_raw: raw, ..CreateOptions::new(SIZE) };
        rig.file("data").set_len(SIZE).unwrap();
        create(&rig, "disk", &options);
        let data_file = Some(rig.file("data"));
        let with = OpenOptions { data_file, ..OpenOptions::default() };
        let disk = Qcow2::open(rig.file("disk"), with).unwrap();
        let mut model = vec![0; SIZE as usize];
        exercise(&disk, &mut model, &mut Random(7), 100);
        drop(disk);
        is_clean(&rig, "disk");
        assert!(rig.converted("qcow2", "disk") == model);
        if raw {
            assert!(std::fs::read(rig.path("data")).unwrap() == model);
        }
    }
}

/// The tool's own images: plain, with subclusters, compressed in both ways.
#[test]
fn what_qemu_wrote_we_read_and_write() {
    for (seed, options) in [
        (1, "compat=0.10"),
        (2, "cluster_size=4k,refcount_bits=8"),
        (3, "extended_l2=on,cluster_size=128k"),
        (4, "lazy_refcounts=on"),
        (5, "preallocation=metadata"),
        (6, "preallocation=falloc,extended_l2=on"),
    ] {
        let rig = Rig::new();
        rig.img(&format!("create -f qcow2 -o {options} disk {SIZE}"));
        let mut random = Random(seed);
        let commands: Vec<_> = (0..40)
            .map(|_| {
                let (offset, len) = random.range(SIZE);
                let (offset, len) = (offset / 512 * 512, len.next_multiple_of(512));
                let len = len.min(SIZE / 512 * 512 - offset);
                match random.below(4) {
                    0 => format!("write -z -u {offset} {len}"),
                    1 => format!("discard {offset} {len}"),
                    _ => format!("write -P {} {offset} {len}", random.below(256)),
                }
            })
            .filter(|line| !line.ends_with(" 0"))
            .collect();
        rig.io("-f qcow2 disk", &commands);
        let mut model = rig.converted("qcow2", "disk");
        let disk = open(&rig, "disk");
        same(&disk, &model);
        exercise(&disk, &mut model, &mut random, 60);
        drop(disk);
        is_clean(&rig, "disk");
        assert!(rig.converted("qcow2", "disk") == model, "{options}");
    }
}

#[test]
fn compressed_clusters_are_read_and_written_over() {
    for (seed, options) in [
        (1, "compression_type=zlib"),
        (2, "compression_type=zstd"),
        (3, "compression_type=zstd,cluster_size=2M"),
        (4, "cluster_size=4k"),
        (5, "extended_l2=on,compression_type=zstd"),
    ] {
        let rig = Rig::new();
        let mut random = Random(seed);
        let mut model = vec![0; SIZE as usize];
        for (at, byte) in model.iter_mut().enumerate() {
            // Text-like here, incompressible there, nothing elsewhere.
            *byte = match at / 100_000 % 3 {
                0 => b"abcdefgh"[at / 7 % 8],
                1 => random.number() as u8,
                _ => 0,
            };
        }
        std::fs::write(rig.path("raw"), &model).unwrap();
        rig.img(&format!("convert -c -f raw -O qcow2 -o {options} raw disk"));
        let disk = open(&rig, "disk");
        // Sizes become whole sectors on the way.
        model.resize(disk.size() as usize, 0);
        same(&disk, &model);
        exercise(&disk, &mut model, &mut random, 100);
        drop(disk);
        is_clean(&rig, "disk");
        assert!(rig.converted("qcow2", "disk") == model, "{options}");
    }
}

#[test]
fn snapshots_are_listed_read_and_survive_what_is_written_later() {
    for options in ["compat=0.10", "extended_l2=on", "cluster_size=4k", "refcount_bits=64"] {
        let rig = Rig::new();
        rig.img(&format!("create -f qcow2 -o {options} disk {SIZE}"));
        let mut random = Random(9);
        let mut model = vec![0; open(&rig, "disk").size() as usize];
        let mut kept = Vec::new();
        for name in ["first", "second"] {
            let disk = open(&rig, "disk");
            exercise(&disk, &mut model, &mut random, 40);
            drop(disk);
            rig.img(&format!("snapshot -c {name} disk"));
            kept.push((name, model.clone()));
        }
        let disk = open(&rig, "disk");
        exercise(&disk, &mut model, &mut random, 60);
        disk.grow(SIZE * 3).unwrap();
        drop(disk);
        is_clean(&rig, "disk");
        let description = image::describe(&*rig.file("disk"), Format::Qcow2).unwrap();
        let names: Vec<_> = description.snapshots.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["first", "second"]);
        for (name, was) in kept {
            let snapshot = Some(name.to_owned());
            let options = OpenOptions { snapshot, ..OpenOptions::default() };
            let then = Qcow2::open(rig.file("disk"), options).unwrap();
            assert!(then.read_only());
            same(&then, &was);
            rig.img(&format!("convert -l snapshot.name={name} -O raw disk then"));
            // The tool gives it the size that the image has now.
            let seen = std::fs::read(rig.path("then")).unwrap();
            assert!(seen[..was.len()] == was && seen[was.len()..].iter().all(|byte| *byte == 0));
        }
    }
}

#[test]
fn a_grown_image_is_sound_and_empty_at_its_end() {
    for (cluster_size, size) in [(512, 40 << 20), (65536, 5 << 30), (4096, 800 << 20)] {
        let rig = Rig::new();
        create(&rig, "disk", &CreateOptions { cluster_size, ..CreateOptions::new(100_000) });
        let disk = open(&rig, "disk");
        disk.write(&[7; 100_000], 0).unwrap();
        disk.grow(size).unwrap();
        disk.write(&[8; 70_000], size - 70_000).unwrap();
        disk.flush().unwrap();
        let mut back = vec![1; 200_000];
        disk.read(&mut back, 0).unwrap();
        assert!(back[..100_000].iter().all(|byte| *byte == 7));
        assert!(back[100_000..].iter().all(|byte| *byte == 0));
        assert!(disk.grow(size - 512).is_err());
        drop(disk);
        is_clean(&rig, "disk");
        let info = rig.img("info disk");
        assert!(info.contains(&format!("({size} bytes)")), "{info}");
    }
}

/// With clusters of 512 bytes, the refcount table has to grow many times.
#[test]
fn small_clusters_and_much_data_make_the_refcount_table_grow() {
    for refcount_bits in [16, 64] {
        let rig = Rig::new();
        let size = 24 << 20;
        let base = CreateOptions::new(size);
        create(&rig, "disk", &CreateOptions { cluster_size: 512, refcount_bits, ..base });
        let disk = open(&rig, "disk");
        let data: Vec<u8> = (0..size).map(|at| (at / 512 % 251) as u8).collect();
        for (offset, part) in (0..).step_by(1 << 20).zip(data.chunks(1 << 20)) {
            disk.write(part, offset).unwrap();
        }
        drop(disk);
        is_clean(&rig, "disk");
        assert!(rig.converted("qcow2", "disk") == data);
    }
}

#[test]
fn lost_and_wrong_counts_are_found_and_repaired() {
    let rig = Rig::new();
    create(&rig, "disk", &CreateOptions::new(SIZE));
    let disk = open(&rig, "disk");
    let mut model = vec![0; SIZE as usize];
    exercise(&disk, &mut model, &mut Random(3), 40);
    drop(disk);
    let file = rig.file("disk");
    // The first refcount block is the third cluster: one count too many, one too few.
    file.write(&5_u16.to_be_bytes(), 2 * 65536 + 2 * 5).unwrap();
    file.write(&0_u16.to_be_bytes(), 2 * 65536 + 2 * 3).unwrap();
    let found = qcow2::check(&*file, Repair::Nothing).unwrap();
    assert!(found.corruptions > 0 && found.leaks > 0, "{found:?}");
    assert!(!rig.try_img("check -f qcow2 disk").status.success());
    let left = qcow2::check(&*file, Repair::Leaks).unwrap();
    assert_eq!((left.leaks, left.corruptions), (0, found.corruptions - 1), "{left:?}");
    let left = qcow2::check(&*file, Repair::All).unwrap();
    assert_eq!((left.leaks, left.corruptions), (0, 0), "{left:?}");
    is_clean(&rig, "disk");
    assert!(rig.converted("qcow2", "disk") == model);
}

/// A program that kept counts in memory only, and was killed.
#[test]
fn an_image_left_dirty_is_counted_anew_before_it_is_written_to() {
    let rig = Rig::new();
    rig.img(&format!("create -f qcow2 -o lazy_refcounts=on disk {SIZE}"));
    let commands = ["write -P 3 100k 1M", "abort"].map(str::to_owned);
    let output = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        rig.io("-f qcow2 -t none disk", &commands);
    }));
    assert!(output.is_err(), "qemu-io was to abort");
    let description = image::describe(&*rig.file("disk"), Format::Qcow2).unwrap();
    assert!(description.dirty);
    let disk = open(&rig, "disk");
    let mut back = vec![0; 1 << 20];
    disk.read(&mut back, 100 << 10).unwrap();
    disk.write(&[4; 1000], 2_000_000).unwrap();
    drop(disk);
    is_clean(&rig, "disk");
    assert!(!image::describe(&*rig.file("disk"), Format::Qcow2).unwrap().dirty);
}

/// What a power cut leaves of a snapshot that was being deleted: its counts.
#[test]
fn what_one_user_is_left_of_is_its_own_after_a_repair_of_leaks() {
    let rig = Rig::new();
    create(&rig, "disk", &CreateOptions::new(SIZE));
    let disk = open(&rig, "disk");
    disk.write(&[7; 4096], 0).unwrap();
    disk.create_snapshot(&NewSnapshot::now("gone")).unwrap();
    drop(disk);
    let file = rig.file("disk");
    // The header's number of snapshots, and where their table is.
    file.write(&[0; 12], 60).unwrap();
    let before = qcow2::check(&*file, Repair::Nothing).unwrap();
    assert_eq!(before.corruptions, 0, "{:?}", before.messages);
    let twice = |message: &String| message.contains("refcount=2 reference=1");
    assert!(before.messages.iter().any(twice), "{:?}", before.messages);
    let left = qcow2::check(&*file, Repair::Leaks).unwrap();
    assert_eq!((left.leaks, left.corruptions), (0, 0), "{:?}", left.messages);
    assert_eq!(left.leaks_fixed, before.leaks);
    is_clean(&rig, "disk");
}
