//! `failing-state`: a daemon whose directories are full, read-only or no directories at all starts all the
//! same, serves reads, refuses with a reason what it cannot store, and leaves guests alone.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use api::types::ListQuery;
use manor_tests::small_fs::SmallFs;
use manor_tests::torture::{Harm, Scale, Tally};

use crate::guest::Process;
use crate::objects::{define, domain, network, start};
use crate::rig::{Daemon, Rig, Trouble};

const SIZE: u64 = 4 << 20;

/// A rig whose state and run directories are file systems of their own, with a guest that runs.
struct Small {
    /// Gone before the directory that they are in.
    _mounts: Vec<SmallFs>,
    rig: Rig,
    guest: String,
    process: Vec<Process>,
    tally: Tally,
}

impl Small {
    fn new() -> Option<Self> {
        let rig = Rig::new("full")?;
        let mut mounts = Vec::new();
        for name in ["state", "run"] {
            fs::create_dir(rig.path(name)).unwrap();
            let mounted = SmallFs::new(SIZE).and_then(|mut small| {
                small.mount(&rig.path(name))?;
                Ok(small)
            });
            match mounted {
                Ok(small) => mounts.push(small),
                Err(error) => {
                    println!("SKIP: no file system of our own: {error}");
                    return None;
                }
            }
        }
        let guest = format!("guest-{}", rig.tag);
        let daemon = rig.start_daemon();
        rig.ask(rig.client.define_network(network("lab", "virbr7", 77), "")).unwrap();
        rig.ask(rig.client.network_verb("lab", "start")).unwrap();
        define(&rig, domain(&rig, &guest, "resting", "")).unwrap();
        define(&rig, domain(&rig, &format!("off-{}", rig.tag), "resting", "")).unwrap();
        start(&rig, &guest).unwrap();
        let process = rig.processes_of(&guest);
        assert_eq!(process.len(), 1);
        drop(daemon);
        Some(Self { _mounts: mounts, rig, guest, process, tally: Tally::of("failing-state") })
    }

    /// Until not a byte more fits.
    fn fill(&self, name: &str) {
        let path = self.rig.path(name).join("filling");
        let file = fs::File::create(path).unwrap();
        let mut at = 0;
        for piece in [65536_usize, 4096, 1] {
            while file.write_all_at(&vec![1; piece], at).is_ok() {
                at += piece as u64;
            }
        }
    }

    fn make_room(&self, name: &str) {
        fs::remove_file(self.rig.path(name).join("filling")).unwrap();
    }

    /// Those that have files of it open to write go on; whoever comes now cannot.
    fn make_read_only(&self, name: &str) {
        let path = self.rig.path(name).display().to_string();
        mount(&["--bind", &path, &path]);
        mount(&["-o", "remount,bind,ro", &path]);
    }

    fn make_writable(&self, name: &str) {
        let done = Command::new("umount").arg(self.rig.path(name)).status().unwrap();
        assert!(done.success());
    }

    /// Count something that should be so.
    fn check(&mut self, what: &str, harm: Harm, good: bool) {
        if !good {
            println!("{what}: not so\n{}", self.rig.log());
        }
        self.tally.count((!good).then_some(harm));
    }

    fn reads(&mut self, when: &str) {
        let rig = &self.rig;
        let list = rig.ask(rig.client.list(&ListQuery::default()));
        let known = list.is_ok_and(|list| list.iter().any(|domain| domain.name == self.guest));
        let xml = rig.ask(rig.client.xml(&self.guest, false, false)).is_ok();
        let stats = rig.ask(rig.client.stats(&self.guest)).is_ok();
        let same = rig.processes_of(&self.guest) == self.process;
        self.check(&format!("{when}: the list has the guest"), Harm::Lost, known);
        self.check(&format!("{when}: its XML"), Harm::Lost, xml);
        self.check(&format!("{when}: its statistics"), Harm::Lost, stats);
        self.check(&format!("{when}: it runs on"), Harm::Escaped, same);
    }

    fn refuses(&mut self, what: &str, words: &[&str], result: Result<(), Trouble>) {
        let good = match &result {
            Err(Trouble::Refused(why)) => words.iter().any(|word| why.contains(word)),
            _ => false,
        };
        if !good {
            println!("{what}: {result:?}");
        }
        self.check(what, Harm::Escaped, good);
    }

    fn daemon(&self) -> Daemon {
        self.rig.start_daemon()
    }
}

fn mount(arguments: &[&str]) {
    let mounted = Command::new("mount").args(arguments).output().unwrap();
    assert!(mounted.status.success(), "{mounted:?}");
}

#[test]
fn a_daemon_without_room_serves_reads_and_leaves_guests_alone() {
    let scale = Scale::of_environment();
    let Some(mut small) = Small::new() else { return };
    for _ in 0..scale.pick(1, 10) {
        full_state(&mut small);
        read_only_state(&mut small);
        full_run(&mut small);
        no_state(&mut small);
    }
    // All is well again, and nobody came to harm.
    let daemon = small.daemon();
    small.reads("afterwards");
    let rig = &small.rig;
    let left = rig.ask(rig.client.list(&ListQuery::default())).unwrap().len();
    small.check("two domains are left", Harm::Lost, left == 2);
    let off = format!("off-{}", small.rig.tag);
    for verb in ["start", "destroy"] {
        let rig = &small.rig;
        let done = match verb {
            "start" => start(rig, &off),
            _ => rig.ask(rig.client.destroy(&off, false)),
        };
        small.check(verb, Harm::Escaped, done.is_ok());
    }
    drop(daemon);
    small.tally.note = "checks of a daemon with full, read-only and missing directories".to_owned();
    small.tally.tell();
    assert!(small.tally.is_clean(), "{}", small.tally);
}

fn another(small: &Small) -> Result<(), Trouble> {
    let name = format!("more-{}", small.rig.tag);
    define(&small.rig, domain(&small.rig, &name, "resting", ""))
}

fn full_state(small: &mut Small) {
    small.fill("state");
    let daemon = small.daemon();
    small.reads("a full state directory");
    let refused = another(small);
    small.refuses("a definition without room", &["no space left"], refused);
    // Room is made: it needs no restart.
    small.make_room("state");
    let stored = another(small).is_ok();
    small.check("a definition with room", Harm::Escaped, stored);
    let name = format!("more-{}", small.rig.tag);
    small.fill("state");
    let undefined = small.rig.ask(small.rig.client.undefine(&name, None, false, false));
    small.make_room("state");
    let gone = undefined.is_ok()
        || small.rig.ask(small.rig.client.undefine(&name, None, false, false)).is_ok();
    small.check("it goes again", Harm::Escaped, gone);
    drop(daemon);
}

fn read_only_state(small: &mut Small) {
    small.make_read_only("state");
    let daemon = small.daemon();
    small.reads("a read-only state directory");
    let refused = another(small);
    small.refuses("a definition that cannot be written", &["could not be stored"], refused);
    let rig = &small.rig;
    let suspended = rig.ask(rig.client.suspend(&small.guest)).is_ok();
    let resumed = rig.ask(rig.client.resume(&small.guest)).is_ok();
    small.check("the guest can be suspended and resumed", Harm::Escaped, suspended && resumed);
    small.reads("after that");
    drop(daemon);
    small.make_writable("state");
}

fn full_run(small: &mut Small) {
    small.fill("run");
    let daemon = small.daemon();
    small.reads("a full run directory");
    let off = format!("off-{}", small.rig.tag);
    let refused = start(&small.rig, &off);
    small.refuses("a start without room", &["No space left", "no space", "cannot write"], refused);
    let left = small.rig.processes_of(&off);
    small.check("it leaves no process", Harm::Escaped, left.is_empty());
    small.make_room("run");
    let rig = &small.rig;
    let started = start(rig, &off).and_then(|()| rig.ask(rig.client.destroy(&off, false)));
    small.check("it starts when there is room", Harm::Escaped, started.is_ok());
    drop(daemon);
}

/// Where definitions were is something else.
fn no_state(small: &mut Small) {
    let (domains, away) = (small.rig.path("state/domains"), small.rig.path("state/away"));
    fs::rename(&domains, &away).unwrap();
    fs::write(&domains, "no directory").unwrap();
    let daemon = small.daemon();
    // Its VMM knows what it is.
    small.reads("a state directory that cannot be read");
    drop(daemon);
    fs::remove_file(&domains).unwrap();
    fs::rename(&away, &domains).unwrap();
}
