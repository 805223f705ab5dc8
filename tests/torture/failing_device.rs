//! `failing-device`: the device below the state directory begins to fail while the daemon runs. Writes end
//! with an error, then the file system takes none any more; the daemon says so, serves reads, and can be started
//! like that. When the device is well and mounted again, everything that was acknowledged is there.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use api::types::ListQuery;
use manor_tests::small_fs::SmallFs;
use manor_tests::torture::{Harm, Scale, Tally};

use crate::guest::Process;
use crate::objects::{define, domain, network, start};
use crate::rig::{Rig, Trouble};

const SIZE: u64 = 24 << 20;

/// An ext4 on a loop device, whose blocks lie in a file with holes: once there is no room for another
/// block, the kernel ends each write to a hole with an error.
struct FailingFs {
    below: SmallFs,
    device: String,
    place: PathBuf,
}

impl FailingFs {
    /// Why there can be none.
    fn mounted(place: &Path) -> Result<Self, String> {
        let said = |error: std::io::Error| error.to_string();
        let below = SmallFs::new(SIZE).map_err(said)?;
        below.file("device").and_then(|file| file.set_len(SIZE)).map_err(said)?;
        let file = below.path("device").display().to_string();
        run("mkfs.ext4", &["-q", "-F", "-E", "nodiscard", "-J", "size=1", &file])?;
        let mut fs = Self { below, device: String::new(), place: place.to_owned() };
        fs.mount()?;
        Ok(fs)
    }

    fn mount(&mut self) -> Result<(), String> {
        let file = self.below.path("device").display().to_string();
        self.device = run("losetup", &["--find", "--show", &file])?;
        run("mount", &[&self.device, &self.place.display().to_string()]).map(drop)
    }

    fn unmount(&self) -> Result<(), String> {
        run("umount", &[&self.place.display().to_string()])?;
        run("losetup", &["--detach", &self.device]).map(drop)
    }

    /// What is stored stays, and nothing is added.
    fn fail(&self) {
        run("sync", &[]).unwrap();
        let used = fs::metadata(self.below.path("device")).unwrap().blocks() * 512;
        self.below.resize(used).unwrap();
    }

    /// As an administrator does it, with the daemon stopped: what was on the device is on another one. Processes in
    /// mount namespaces of their own may still have the old one.
    fn heal(&mut self) {
        self.below.resize(SIZE).unwrap();
        self.unmount().unwrap();
        self.mount().unwrap();
    }
}

impl Drop for FailingFs {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

struct Case {
    rig: Rig,
    guest: String,
    process: Vec<Process>,
    tally: Tally,
}

impl Case {
    fn check(&mut self, what: &str, harm: Harm, good: bool) {
        if !good {
            println!("{what}: not so\n{}", self.rig.log());
        }
        self.tally.count((!good).then_some(harm));
    }

    fn reads(&mut self, when: &str, domains: usize) {
        let rig = &self.rig;
        let listed = rig.ask(rig.client.list(&ListQuery::default()));
        let all = matches!(&listed, Ok(list) if list.len() == domains);
        let xml = rig.ask(rig.client.xml(&self.guest, true, false)).is_ok();
        let stats = rig.ask(rig.client.stats(&self.guest)).is_ok();
        let same = rig.processes_of(&self.guest) == self.process;
        if !all {
            println!("{when}: {listed:?}");
        }
        self.check(&format!("{when}: all domains are listed"), Harm::Lost, all);
        self.check(&format!("{when}: the guest's stored XML"), Harm::Lost, xml);
        self.check(&format!("{when}: its statistics"), Harm::Lost, stats);
        self.check(&format!("{when}: it runs on"), Harm::Escaped, same);
    }

    /// Not done, with a reason that names the trouble.
    fn refuses(&mut self, what: &str, result: Result<(), Trouble>) {
        let words = ["could not be stored", "no space left"];
        let good = matches!(&result, Err(Trouble::Refused(why)) if words.iter().any(|it| why.contains(it)));
        if !good {
            println!("{what}: {result:?}");
        }
        self.check(what, Harm::Escaped, good);
    }

    fn another(&self) -> Result<(), Trouble> {
        define(&self.rig, domain(&self.rig, &format!("more-{}", self.rig.tag), "resting", ""))
    }

    /// What cannot be stored is refused, and what needs no storing is done.
    fn goes_on_without_storing(&mut self, when: &str) {
        let refused = self.another();
        self.refuses(&format!("{when}: a definition"), refused);
        let (rig, guest) = (&self.rig, &self.guest);
        let suspended = rig.ask(rig.client.suspend(guest)).is_ok();
        let resumed = rig.ask(rig.client.resume(guest)).is_ok();
        self.check(&format!("{when}: suspend and resume"), Harm::Escaped, suspended && resumed);
        self.reads(when, 2);
    }

    fn off(&self) -> String {
        format!("off-{}", self.rig.tag)
    }
}

#[test]
fn a_daemon_whose_device_fails_serves_reads_and_is_whole_when_it_is_mended() {
    let scale = Scale::of_environment();
    let Some(rig) = Rig::new("eio") else { return };
    fs::create_dir(rig.path("state")).unwrap();
    let mut device = match FailingFs::mounted(&rig.path("state")) {
        Ok(device) => device,
        Err(why) => return println!("SKIP: no device that fails: {why}"),
    };
    let guest = format!("guest-{}", rig.tag);
    let mut daemon = rig.start_daemon();
    rig.ask(rig.client.define_network(network("lab", "virbr7", 77), "")).unwrap();
    rig.ask(rig.client.network_verb("lab", "start")).unwrap();
    define(&rig, domain(&rig, &guest, "resting", "")).unwrap();
    define(&rig, domain(&rig, &format!("off-{}", rig.tag), "resting", "")).unwrap();
    start(&rig, &guest).unwrap();
    let process = rig.processes_of(&guest);
    assert_eq!(process.len(), 1);
    let mut case = Case { rig, guest, process, tally: Tally::of("failing-device") };
    for _ in 0..scale.pick(1, 10) {
        device.fail();
        case.goes_on_without_storing("a device that begins to fail");
        drop(daemon);
        daemon = case.rig.start_daemon();
        case.goes_on_without_storing("a daemon that starts on a device that has failed");
        drop(daemon);
        device.heal();
        daemon = case.rig.start_daemon();
        case.reads("a device that is well again", 2);
        let stored = case.another();
        case.check("a definition is stored again", Harm::Escaped, stored.is_ok());
        let (rig, more) = (&case.rig, format!("more-{}", case.rig.tag));
        let gone = rig.ask(rig.client.undefine(&more, None, false, false));
        case.check("and forgotten again", Harm::Escaped, gone.is_ok());
        let (rig, off) = (&case.rig, case.off());
        let done = start(rig, &off).and_then(|()| rig.ask(rig.client.destroy(&off, false)));
        case.check("the other guest starts", Harm::Escaped, done.is_ok());
    }
    let ended = case.rig.ask(case.rig.client.destroy(&case.guest, false));
    case.check("the guest ends when it is told to", Harm::Escaped, ended.is_ok());
    drop(daemon);
    drop(device);
    case.tally.note = "checks of a daemon whose state directory's device fails".to_owned();
    case.tally.tell();
    assert!(case.tally.is_clean(), "{}", case.tally);
}
