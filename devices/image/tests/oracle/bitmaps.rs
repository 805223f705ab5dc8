use std::sync::Arc;

use image::Image as _;
use image::qcow2::{self, BitmapInfo, CreateOptions, DirtyBitmap, OpenOptions, Qcow2, Repair};

use crate::rig::Rig;

const SIZE: u64 = 8 << 20;
const STEP: u64 = 65536;

fn open(rig: &Rig) -> Arc<Qcow2> {
    Arc::new(Qcow2::open(rig.file("disk"), OpenOptions::default()).unwrap())
}

fn clean(rig: &Rig) {
    rig.img("check -f qcow2 disk");
    let report = qcow2::check(&*rig.file("disk"), Repair::Nothing).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
}

fn dirty(bitmap: &DirtyBitmap) -> Vec<u64> {
    let bits = SIZE / bitmap.info.granularity;
    let is_set = |bit: &u64| bitmap.words[(bit / 64) as usize] >> (bit % 64) & 1 != 0;
    (0..bits).filter(is_set).collect()
}

#[test]
fn bitmaps_of_qemu_are_read_and_show_what_it_wrote_to() {
    let rig = Rig::new();
    rig.img("create -f qcow2 disk 8M");
    rig.img("bitmap --add disk old");
    rig.io("disk", &["write 64k 64k".into(), "write 1M 128k".into()]);
    rig.img("bitmap --add --disable disk frozen");
    rig.img("bitmap --add -g 4k disk fine");
    rig.io("disk", &["write 2M 4k".into()]);
    clean(&rig);
    let found = open(&rig).bitmaps().unwrap();
    let names: Vec<_> = found.iter().map(|it| (it.info.name.as_str(), it.info.enabled)).collect();
    assert_eq!(names, [("old", true), ("frozen", false), ("fine", true)]);
    assert_eq!(dirty(&found[0]), [1, 16, 17, 32]);
    assert_eq!(dirty(&found[1]), Vec::<u64>::new());
    assert_eq!(dirty(&found[2]), [512]);
    // We write, and keep no bitmaps: QEMU is told that they are worth nothing.
    open(&rig).write(&[1; 512], 0).unwrap();
    assert!(rig.img("info disk").contains("in-use"));
    clean(&rig);
    assert!(open(&rig).bitmaps().unwrap().iter().all(|it| it.info.inconsistent));
}

#[test]
fn bitmaps_that_we_store_are_merged_and_removed_by_qemu_img() {
    let rig = Rig::new();
    qcow2::create(&*rig.file("disk"), &CreateOptions::new(SIZE)).unwrap();
    let bitmap = |name: &str, bit: u64| {
        let info =
            BitmapInfo { name: name.into(), granularity: STEP, enabled: true, inconsistent: false };
        let mut words = vec![0; DirtyBitmap::words_for(SIZE, STEP)];
        words[(bit / 64) as usize] |= 1 << (bit % 64);
        DirtyBitmap { info, words }
    };
    let disk = open(&rig);
    disk.write(&[7; 512], 5 * STEP).unwrap();
    disk.store_bitmaps(&[bitmap("one", 5), bitmap("two", 70)]).unwrap();
    drop(disk);
    clean(&rig);
    let info = rig.img("info disk");
    assert!(info.contains("name: one") && info.contains("granularity: 65536"), "{info}");
    assert!(!info.contains("in-use"), "{info}");
    rig.img("bitmap --merge two disk one");
    rig.img("bitmap --remove disk two");
    let found = open(&rig).bitmaps().unwrap();
    assert_eq!((found.len(), dirty(&found[0])), (1, vec![5, 70]));
    // qemu-io tracks in what we made.
    rig.io("disk", &["write 0 512".into()]);
    assert_eq!(dirty(&open(&rig).bitmaps().unwrap()[0]), [0, 5, 70]);
    open(&rig).store_bitmaps(&[]).unwrap();
    assert!(!rig.img("info disk").contains("bitmaps"));
    clean(&rig);
}
