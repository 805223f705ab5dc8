//! Files that take what a guest writes at its console.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use baremetal::pvh;
use vmm_protocol::config::LogFile;

use crate::needs_kvm;
use crate::rig::Rig;

const LARGEST: usize = 2 << 20;

#[test]
fn a_full_log_goes_to_an_older_file_and_the_guest_writes_on() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.print("the newest words\n").power_off();
    });
    let mut rig = Rig::new(&kernel);
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let path = dir.path().join(name);
        std::fs::OpenOptions::new().read(true).append(true).create(true).open(path).unwrap()
    };
    let files: Vec<_> = ["log", "log.0", "log.1"].map(open).into();
    let [mut log, older, oldest] = files.try_into().unwrap();
    log.write_all(&[b'a'; LARGEST - 4]).unwrap();
    older.write_all_at(b"what was there before", 0).unwrap();
    let own = LogFile {
        file: rig.add(log.try_clone().unwrap()),
        older: [&older, &oldest].map(|file| rig.add(file.try_clone().unwrap())).into(),
    };
    // Beside the rig's own: a device may have several.
    rig.config.serial[0].chardev.logs.push(own);
    let (_, _, serial) = rig.start().wait();
    assert_eq!(serial, "the newest words\n");
    let contents = |file: &std::fs::File| {
        let mut data = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut data, 0).unwrap();
        String::from_utf8(data).unwrap()
    };
    assert_eq!(contents(&oldest), "what was there before");
    let kept = contents(&older) + &contents(&log);
    assert!(contents(&older).len() <= LARGEST && contents(&log).len() < 100);
    assert!(kept.starts_with("aaaa") && kept.ends_with("aaaathe newest words\n"));
}
