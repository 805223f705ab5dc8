//! Orders of operations: trees of images with snapshots in them, changed at random, beside a model
//! that holds what each disk and each snapshot has.

use std::sync::Arc;

use image::qcow2::{self, CreateOptions, NewSnapshot, OpenOptions, Qcow2, Repair, SnapshotRef};
use image::{Image, Reference, copy};

use crate::qcow2::is_clean;
use crate::rig::{Random, Rig, exercise, same};

const SIZE: u64 = 700 * 1024;
/// Images that there are at a time, and snapshots in each.
const MOST_IMAGES: usize = 6;
const MOST_SNAPSHOTS: usize = 4;

struct World {
    rig: Rig,
    random: Random,
    images: Vec<Model>,
    made: u32,
    log: Vec<String>,
}

#[derive(Clone)]
struct Model {
    name: String,
    /// The image below, by name.
    backing: Option<String>,
    disk: Vec<u8>,
    snapshots: Vec<(String, Vec<u8>)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let log = vec![format!("seed {seed}")];
        let mut world =
            Self { rig: Rig::new(), random: Random(seed), images: Vec::new(), made: 0, log };
        world.create(None);
        world
    }

    fn name(&mut self) -> String {
        self.made += 1;
        format!("i{}", self.made)
    }

    /// An image of some shape, with what is below it showing through.
    fn create(&mut self, below: Option<Model>) {
        let name = self.name();
        let backing = below
            .as_ref()
            .map(|below| Reference { name: below.name.clone(), format: Some("qcow2".into()) });
        let shape = self.random.below(4);
        let options = CreateOptions {
            backing,
            cluster_size: [512, 4096, 65536, 16384][shape as usize],
            extended_l2: shape == 3,
            refcount_bits: [8, 16, 64][self.random.below(3) as usize],
            ..CreateOptions::new(SIZE)
        };
        qcow2::create(&*self.rig.file(&name), &options).unwrap();
        let disk = below.as_ref().map_or_else(|| vec![0; SIZE as usize], |it| it.disk.clone());
        let backing = below.map(|below| below.name);
        self.images.push(Model { name, backing, disk, snapshots: Vec::new() });
    }

    fn open(&self, name: &str, read_only: bool, snapshot: Option<&str>) -> Qcow2 {
        let model = self.images.iter().find(|image| image.name == name).unwrap();
        let backing = model
            .backing
            .as_ref()
            .map(|below| -> Arc<dyn Image> { Arc::new(self.open(below, true, None)) });
        let snapshot = snapshot.map(str::to_owned);
        let options = OpenOptions { read_only, backing, snapshot, ..OpenOptions::default() };
        Qcow2::open(self.rig.file(name), options).unwrap()
    }

    fn has_overlays(&self, name: &str) -> bool {
        self.images.iter().any(|image| image.backing.as_deref() == Some(name))
    }

    /// An image that nothing lies on, by its number.
    fn top(&mut self) -> usize {
        let names: Vec<_> = self.images.iter().map(|image| image.name.clone()).collect();
        let tops: Vec<_> =
            (0..names.len()).filter(|index| !self.has_overlays(&names[*index])).collect();
        tops[self.random.below(tops.len() as u64) as usize]
    }

    fn step(&mut self) {
        let index = self.top();
        let name = self.images[index].name.clone();
        let full = self.images.len() >= MOST_IMAGES;
        let count = self.images[index].snapshots.len();
        let chosen = self.random.below(count.max(1) as u64) as usize;
        let act = self.random.below(12);
        self.log.push(format!("act {act} on {name}"));
        match act {
            0..=3 => {
                let disk = self.open(&name, false, None);
                let writes = 1 + self.random.below(12) as u32;
                exercise(&disk, &mut self.images[index].disk, &mut self.random, writes);
            }
            4 | 5 if count < MOST_SNAPSHOTS => {
                let called = self.name();
                let disk = self.open(&name, false, None);
                disk.create_snapshot(&NewSnapshot::now(&called)).unwrap();
                // Written to in the same breath, as by a guest that goes on.
                let model = &mut self.images[index];
                model.snapshots.push((called, model.disk.clone()));
                exercise(&disk, &mut model.disk, &mut self.random, 3);
            }
            6 if count > 0 => {
                let disk = self.open(&name, false, None);
                let model = &mut self.images[index];
                disk.apply_snapshot(SnapshotRef::Name(&model.snapshots[chosen].0)).unwrap();
                model.disk = model.snapshots[chosen].1.clone();
                exercise(&disk, &mut model.disk, &mut self.random, 3);
            }
            7 if count > 0 => {
                let disk = self.open(&name, false, None);
                let model = &mut self.images[index];
                let (called, _) = model.snapshots.remove(chosen);
                disk.delete_snapshot(SnapshotRef::Name(&called)).unwrap();
                exercise(&disk, &mut model.disk, &mut self.random, 3);
            }
            8 if !full => {
                let below = self.images[index].clone();
                self.create(Some(below));
            }
            9 => self.commit(index),
            10 if !full => self.copy(index, chosen),
            11 if self.images.len() > 1 => {
                std::fs::remove_file(self.rig.path(&name)).unwrap();
                self.images.remove(index);
            }
            _ => {}
        }
    }

    /// What an image has goes into the one below, which nothing else lies on, and it is removed.
    fn commit(&mut self, index: usize) {
        let top = self.images[index].clone();
        let Some(base) = top.backing.clone() else { return };
        let on_base = |image: &&Model| image.backing.as_ref() == Some(&base);
        if self.images.iter().filter(on_base).count() > 1 {
            return;
        }
        {
            let above = self.open(&top.name, true, None);
            let below = self.open(&base, false, None);
            let mut at = 0;
            while at < SIZE {
                let extent = above.map(at, SIZE - at).unwrap();
                if extent.depth == 0 && extent.is_zero() {
                    below.write_zeroes(at, extent.len, true).unwrap();
                } else if extent.depth == 0 {
                    let mut data = vec![0; extent.len as usize];
                    above.read(&mut data, at).unwrap();
                    below.write(&data, at).unwrap();
                }
                at += extent.len;
            }
        }
        std::fs::remove_file(self.rig.path(&top.name)).unwrap();
        self.images.remove(index);
        let below = self.images.iter_mut().find(|image| image.name == base).unwrap();
        below.disk = top.disk;
    }

    /// A clone of the file with all that is in it, or an image of its own of the disk or a snapshot.
    fn copy(&mut self, index: usize, chosen: usize) {
        let of = self.images[index].clone();
        if self.random.below(2) == 0 {
            let name = self.name();
            std::fs::copy(self.rig.path(&of.name), self.rig.path(&name)).unwrap();
            self.images.push(Model { name, ..of });
            return;
        }
        let snapshot = of.snapshots.get(chosen).filter(|_| self.random.below(2) == 0);
        let source = self.open(&of.name, true, snapshot.map(|(name, _)| name.as_str()));
        self.create(None);
        let made = self.images.last_mut().unwrap();
        made.disk = snapshot.map_or(of.disk, |(_, then)| then.clone());
        let name = made.name.clone();
        let target = self.open(&name, false, None);
        copy::copy(&source, &target, copy::Target::Blank, 512, &mut |_| Ok(())).unwrap();
        target.flush().unwrap();
    }

    /// All that there is, against the model.
    fn check(&self, with_qemu: bool) {
        for model in &self.images {
            same(&self.open(&model.name, true, None), &model.disk);
            for (name, then) in &model.snapshots {
                same(&self.open(&model.name, true, Some(name)), then);
            }
            let report = qcow2::check(&*self.rig.file(&model.name), Repair::Nothing).unwrap();
            assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
            if with_qemu {
                is_clean(&self.rig, &model.name);
                assert!(self.rig.converted("qcow2", &model.name) == model.disk, "{}", model.name);
            }
        }
    }

    fn run(mut self, steps: u32) {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for step in 1..=steps {
                self.step();
                if step % 8 == 0 || step == steps {
                    self.check(step == steps);
                }
            }
        }));
        assert!(ran.is_ok(), "after {:#?}", self.log);
    }
}

#[test]
fn every_order_of_operations_leaves_what_was_kept() {
    for seed in [11, 12, 13] {
        World::new(seed).run(64);
    }
}

#[test]
#[ignore = "takes long: --all"]
fn every_order_of_operations_leaves_what_was_kept_for_long() {
    for seed in 1000..1100 {
        World::new(seed).run(300);
    }
}
