//! Formats of other programs.

use std::sync::Arc;

use image::chain::{self, Node};
use image::{Format, Image, NewImage};

use crate::rig::{Random, Rig, exercise, same};

const SIZE: u64 = 11 * 1024 * 1024 + 512;

/// Some data, some nothing.
fn disk(rig: &Rig, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut disk = vec![0; SIZE as usize];
    for _ in 0..20 {
        let (offset, len) = random.range(SIZE);
        let byte = random.number() as u8;
        disk[offset as usize..(offset + len.min(300_000)) as usize].fill(byte);
    }
    let noise = &mut disk[5_000_000..5_200_000];
    noise.iter_mut().for_each(|byte| *byte = random.number() as u8);
    std::fs::write(rig.path("raw"), &disk).unwrap();
    disk
}

fn open(rig: &Rig, name: &str, format: Format, read_only: bool) -> Arc<dyn Image> {
    let file = rig.file(name);
    let description = image::describe(&*file, format).unwrap();
    let mut node = Node::new(format, file);
    node.extents = description.extents.iter().map(|name| rig.file(name)).collect();
    chain::open(node, read_only).unwrap()
}

/// Format, the tool's name and options for it, and whether it is written to.
const WRITTEN_BY_OTHERS: [(Format, &str, bool); 12] = [
    (Format::Vdi, "vdi", true),
    (Format::Vdi, "vdi -o static=on", true),
    (Format::Vpc, "vpc -o force_size=on", true),
    (Format::Vpc, "vpc -o subformat=fixed,force_size=on", true),
    (Format::Vmdk, "vmdk", true),
    (Format::Vmdk, "vmdk -o zeroed_grain=on", true),
    (Format::Vmdk, "vmdk -o subformat=monolithicFlat", true),
    (Format::Vmdk, "vmdk -o subformat=twoGbMaxExtentSparse", true),
    (Format::Vmdk, "vmdk -o subformat=twoGbMaxExtentFlat", true),
    (Format::Vmdk, "vmdk -o subformat=streamOptimized", false),
    (Format::Vhdx, "vhdx", false),
    (Format::Vhdx, "vhdx -o subformat=fixed,block_size=1M", false),
];

#[test]
fn what_others_wrote_is_read_and_written() {
    for (seed, (format, options, writable)) in (1..).zip(WRITTEN_BY_OTHERS) {
        let rig = Rig::new();
        let mut model = disk(&rig, seed);
        let name = options.split(' ').next().unwrap();
        rig.img(&format!("convert -f raw -O {options} raw disk.{name}"));
        let file = format!("disk.{name}");
        let image = open(&rig, &file, format, true);
        // Some formats have only whole cylinders, or larger sectors.
        model.resize(image.size() as usize, 0);
        same(&*image, &model);
        drop(image);
        if !writable {
            let file = rig.file(&file);
            let mut node = Node::new(format, file.clone());
            node.extents = Vec::new();
            let error = chain::open(node, false).err().unwrap().in_full();
            assert!(error.contains("can only be read"), "{options}: {error}");
            let description = image::describe(&*file, format).unwrap();
            assert!(description.read_only.is_some());
            continue;
        }
        for _ in 0..2 {
            let image = open(&rig, &file, format, false);
            exercise(&*image, &mut model, &mut Random(seed + 77), 60);
        }
        assert!(rig.converted(name, &file) == model, "{options}");
        if !options.contains("Flat") && format != Format::Vpc {
            rig.img(&format!("check -q -f {name} {file}"));
        }
    }
}

#[test]
fn what_we_made_others_read() {
    for (seed, (format, new)) in (50..).zip([
        (Format::Vdi, NewImage::Vdi { fixed: false }),
        (Format::Vdi, NewImage::Vdi { fixed: true }),
        (Format::Vpc, NewImage::Vpc { fixed: false }),
        (Format::Vpc, NewImage::Vpc { fixed: true }),
        (Format::Vmdk, NewImage::Vmdk { name: "disk".into() }),
    ]) {
        let rig = Rig::new();
        new.create(&*rig.file("disk"), SIZE).unwrap();
        let image = open(&rig, "disk", format, false);
        let mut model = vec![0; SIZE as usize];
        exercise(&*image, &mut model, &mut Random(seed), 100);
        drop(image);
        same(&*open(&rig, "disk", format, true), &model);
        let seen = rig.converted(format.name(), "disk");
        assert!(seen == model, "{new:?}: {} bytes", seen.len());
        if format != Format::Vpc {
            rig.img(&format!("check -q -f {format} disk"));
        }
    }
}

#[test]
fn images_with_parents_are_refused_by_name() {
    let rig = Rig::new();
    rig.img("create -q -f vmdk base.vmdk 10M");
    rig.img("create -q -f vmdk -b base.vmdk -F vmdk top.vmdk");
    let node = Node::new(Format::Vmdk, rig.file("top.vmdk"));
    let error = chain::open(node, true).err().unwrap().in_full();
    assert!(error.contains("a parent image (base.vmdk)"), "{error}");
}

/// The tool's images, damaged in the seeded way of the fuzz targets' replay.
#[test]
fn damage_anywhere_is_contained() {
    let rig = Rig::new();
    disk(&rig, 3);
    for (format, options) in [
        (Format::Vdi, "vdi"),
        (Format::Vpc, "vpc"),
        (Format::Vmdk, "vmdk"),
        (Format::Vmdk, "vmdk -o subformat=streamOptimized"),
        (Format::Vhdx, "vhdx -o block_size=1M"),
    ] {
        rig.img(&format!("create -q -f {options} disk 8M"));
        let file = rig.file("disk");
        let mut sound = vec![0; file.size().unwrap().min(9 << 20) as usize];
        file.read(&mut sound, 0).unwrap();
        // Tables at places that differ: headers, the first MiB, and the end.
        let mut random = Random(0x9e37_79b9);
        for _ in 0..150 {
            let mut bytes = sound.clone();
            for _ in 0..=random.below(4) {
                let len = bytes.len() as u64;
                let starts = [0, 512, 1024, 65536, 131_072, 196_608, 1 << 20, 2 << 20, len - 1024];
                let at = starts[random.below(9) as usize] + random.below(256);
                let value = [0, 0xff, 0x80, random.number() as u8][random.below(4) as usize];
                if let Some(byte) = bytes.get_mut(at as usize) {
                    *byte = value;
                }
            }
            image::torture::any(format, bytes);
        }
    }
}
