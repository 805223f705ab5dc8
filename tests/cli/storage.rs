//! Pools, volumes and jobs, by virsh's verbs. Words and layouts are those of virsh 9.0.

use std::time::Duration;

use manor_tests::qemu::image_tools;

use super::rig::{Outcome, Rig, wait_for};

struct Storage(Rig);

impl Storage {
    /// A daemon with an active pool in `images/`.
    fn new() -> Self {
        let storage = Self(Rig::new());
        let path = storage.0.path("images").display().to_string();
        let define = format!("pool-define-as images dir --target {path}");
        assert_eq!(storage.done(&define), "Pool images defined\n\n");
        assert_eq!(storage.done("pool-start images --build"), "Pool images started\n\n");
        storage
    }

    fn manor(&self, line: &str) -> Outcome {
        self.0.manor(line.split_whitespace())
    }

    fn done(&self, line: &str) -> String {
        let outcome = self.manor(line);
        assert_eq!(outcome.status, 0, "{line}: {}", outcome.err);
        outcome.out
    }

    fn refused(&self, line: &str) -> String {
        let outcome = self.manor(line);
        assert_ne!(outcome.status, 0, "{line}: {}", outcome.out);
        outcome.err
    }

    fn path(&self, volume: &str) -> String {
        self.0.path("images").join(volume).display().to_string()
    }

    fn json(&self, line: &str) -> serde_json::Value {
        serde_json::from_str(&self.done(&format!("--json {line}"))).unwrap()
    }

    /// QEMU finds nothing wrong with it.
    fn check(&self, volume: &str) {
        let mut command = image_tools().unwrap().img.command();
        let output = command.args(["check", "-f", "qcow2", &self.path(volume)]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn a_pool_is_listed_described_and_forgotten_as_virsh_does() {
    let storage = Storage::new();
    let list = " Name     State    Autostart\n------------------------------\n \
                images   active   no\n\n";
    assert_eq!(storage.done("pool-list"), list);
    assert_eq!(storage.done("pool-autostart images"), "Pool images marked as autostarted\n\n");
    assert!(
        storage.done("pool-info images").starts_with("Name:           images\nUUID:           ")
    );
    let info = storage.done("pool-info images --bytes");
    for line in ["State:          running", "Persistent:     yes", "Autostart:      yes"] {
        assert!(info.contains(line), "{info}");
    }
    let capacity = info.lines().find_map(|line| line.strip_prefix("Capacity:")).unwrap();
    assert!(capacity.trim().parse::<u64>().unwrap() > 0, "{info}");
    let header = " Name     State     Autostart   Persistent   Capacity";
    assert!(storage.done("pool-list --details").starts_with(header));
    let uuid = storage.done("pool-uuid images").trim().to_owned();
    assert_eq!(storage.done(&format!("pool-name {uuid}")), "images\n\n");
    let xml = storage.done("pool-dumpxml images");
    assert!(xml.starts_with("<pool type='dir'>\n  <name>images</name>\n"), "{xml}");
    assert!(storage.refused("pool-undefine images").contains("pool-destroy images"));
    assert_eq!(storage.done("pool-refresh images"), "Pool images refreshed\n\n");
    assert_eq!(storage.done("pool-destroy images"), "Pool images destroyed\n\n");
    assert_eq!(storage.done("pool-list --name"), "\n");
    assert_eq!(storage.done("pool-list --inactive --name"), "images\n\n");
    assert_eq!(storage.done("pool-delete images"), "Pool images deleted\n\n");
    assert!(storage.refused("pool-start images").contains("does not exist"));
    assert_eq!(storage.done("pool-undefine images"), "Pool images has been undefined\n\n");
    assert_eq!(storage.refused("pool-info images"), "error: failed to get pool 'images'\n");
    assert_eq!(storage.manor("pool-info images").status, 3);
}

#[test]
fn what_pools_cannot_be_is_said_with_its_place() {
    let storage = Storage::new();
    storage.0.write("p.xml", "<pool type='rbd'>\n<name>vg</name>\n</pool>");
    let error = storage.refused("pool-define p.xml");
    assert!(
        error.starts_with("error: Failed to define pool from p.xml\nerror: p.xml:1:7"),
        "{error}"
    );
    assert!(error.contains("no pools of type='rbd'"), "{error}");
    let print = storage.done("pool-define-as p dir - - - - /x --print-xml");
    assert!(print.contains("<target>\n    <path>/x</path>"), "{print}");
    let line = "pool-define-as n netfs --source-host nas --source-path /e --source-format nfs \
                --target /x --print-xml";
    let source = "  <source>\n    <host name='nas'/>\n    <dir path='/e'/>\n    \
                  <format type='nfs'/>\n  </source>\n";
    assert!(storage.done(line).contains(source), "{}", storage.done(line));
    assert!(
        storage.refused("pool-define-as p dir --source-host nas --target /x").contains("source")
    );
}

#[test]
fn a_server_that_would_be_an_option_of_mounts_helper_is_refused_by_name() {
    let storage = Storage::new();
    let target = storage.path("nas");
    std::fs::create_dir(&target).unwrap();
    let define = format!(
        "pool-define-as nas netfs --source-host=-oremount,exec --source-path /e --target {target}"
    );
    storage.done(&define);
    let error = storage.refused("pool-start nas");
    for part in ["\"-oremount,exec\"", "no host's name begins with '-'"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn volumes_are_made_cloned_resized_and_removed_as_virsh_does() {
    let storage = Storage::new();
    let done = |line: &str| storage.done(line);
    let create = "vol-create-as images base.img 4M --allocation 0";
    assert_eq!(done(create), "Vol base.img created\n\n");
    let disk: Vec<u8> = (0..4_u32 << 20).map(|at| (at >> 14) as u8).collect();
    storage.0.write("disk", &disk);
    done("vol-upload base.img disk --pool images");
    assert_eq!(
        done("vol-clone base.img copy.img --pool images"),
        "Vol copy.img cloned from base.img\n\n"
    );
    done("vol-download copy.img back --pool images");
    assert_eq!(std::fs::read(storage.0.path("back")).unwrap(), disk);
    storage.0.write(
        "v.xml",
        "<volume><name>web.qcow2</name><capacity unit='MiB'>4</capacity>\
         <target><format type='qcow2'/></target></volume>",
    );
    assert_eq!(
        done("vol-create-from images v.xml base.img"),
        "Vol web.qcow2 created from input vol base.img\n\n"
    );
    storage.check("web.qcow2");
    done("vol-create-as images top.qcow2 8M --format qcow2 --backing-vol web.qcow2");
    storage.check("top.qcow2");
    let top = storage.path("top.qcow2");
    assert_eq!(done(&format!("vol-name {top}")), "top.qcow2\n\n");
    assert_eq!(done(&format!("vol-pool {top}")), "images\n\n");
    for verb in ["vol-path", "vol-key"] {
        assert_eq!(done(&format!("{verb} top.qcow2 --pool images")), format!("{top}\n\n"));
    }
    assert_eq!(
        done("vol-resize top.qcow2 16M --pool images"),
        "Size of volume 'top.qcow2' successfully changed to 16M\n\n"
    );
    storage.check("top.qcow2");
    let info = done("vol-info top.qcow2 --pool images");
    assert!(info.starts_with(
        "Name:           top.qcow2\nType:           file\nCapacity:       16.00 MiB\nAllocation:"
    ));
    let xml = done("vol-dumpxml top.qcow2 --pool images");
    assert!(xml.contains("<backingStore>") && xml.contains("<format type='qcow2'/>"), "{xml}");
    let list = done("vol-list images");
    assert!(list.starts_with(" Name        Path\n-----"), "{list}");
    assert!(list.contains(&format!(" top.qcow2   {top}\n")), "{list}");
    assert!(done("vol-list images --details").contains("   file   16.00 MiB   "));
    let error = storage.refused("vol-delete web.qcow2 --pool images");
    assert!(error.contains("lies below volume \"top.qcow2\""), "{error}");
    let users = done("vol-users web.qcow2 --pool images");
    assert!(users.contains(" volume   images/top.qcow2   -      1 below its image\n"), "{users}");
    assert_eq!(storage.json(&format!("vol-users {top}"))["users"], serde_json::json!([]));
    assert_eq!(done("vol-wipe copy.img --pool images"), "Vol copy.img wiped\n\n");
    assert_eq!(storage.json("vol-info copy.img --pool images")["capacity_bytes"], 4 << 20);
    let unknown = storage.refused("vol-wipe copy.img --pool images --algorithm shred");
    assert!(unknown.contains("there is no algorithm \"shred\"; there are zero"), "{unknown}");
    assert_eq!(
        done("vol-wipe copy.img --pool images --algorithm random"),
        "Vol copy.img wiped\n\n"
    );
    for volume in ["top.qcow2", "web.qcow2", "copy.img", "base.img"] {
        assert_eq!(
            done(&format!("vol-delete {volume} --pool images")),
            format!("Vol {volume} deleted\n\n")
        );
    }
    assert_eq!(
        storage.refused("vol-info nothing"),
        "error: failed to get vol 'nothing', specifying --pool might help\n"
    );
    assert_eq!(
        storage.refused("vol-info nothing --pool images"),
        "error: failed to get vol 'nothing'\n"
    );
}

#[test]
fn jobs_are_listed_watched_and_aborted_and_do_not_outlive_their_daemon() {
    let mut storage = Storage::new();
    storage.done("vol-create-as images a.img 1M");
    let jobs = storage.json("job list");
    let job = &jobs[0];
    assert_eq!(
        (job["kind"].as_str(), job["phase"].as_str()),
        (Some("volume-create"), Some("done"))
    );
    let table = storage.done("job list");
    assert!(table.starts_with(" Id "), "{table}");
    assert!(table.contains("volume-create   images/a.img   done    100%"), "{table}");
    let id = job["id"].as_str().unwrap();
    assert_eq!(storage.done(&format!("job watch {}", &id[..8])), format!("Job {id} done\n\n"));
    assert!(storage.refused(&format!("job abort {id}")).contains("has ended"));
    assert_eq!(storage.manor("job watch nothing").status, 3);
    // An upload whose bytes never end.
    let start = |storage: &Storage| {
        let mut upload = storage.0.command(&storage.0.binary);
        upload.args(["vol-upload", "a.img", "/dev/stdin", "--pool", "images"]);
        upload.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        upload.spawn().unwrap()
    };
    let running = |storage: &Storage| {
        let jobs = storage.json("job list");
        let jobs = jobs.as_array().unwrap().clone();
        let found = jobs.into_iter().find(|job| job["phase"] == "running");
        found.map(|job| job["id"].as_str().unwrap().to_owned())
    };
    let mut upload = start(&storage);
    wait_for("the upload to begin", || running(&storage).is_some());
    let id = running(&storage).unwrap();
    assert!(storage.refused("vol-delete a.img --pool images").contains("busy"));
    storage.done(&format!("job abort {id}"));
    drop(upload.stdin.take());
    upload.wait().unwrap();
    wait_for("the upload to end", || running(&storage).is_none());
    let mut upload = start(&storage);
    wait_for("the upload to begin", || running(&storage).is_some());
    let id = running(&storage).unwrap();
    storage.0.end_daemon("KILL");
    upload.wait().unwrap();
    storage.0.start_daemon();
    let jobs = storage.json("job list");
    let jobs = jobs.as_array().unwrap().clone();
    let ended = jobs.iter().find(|job| job["id"] == id.as_str()).unwrap();
    assert_eq!(ended["phase"], "interrupted");
    // The pool is as it was, and the volume is free.
    std::thread::sleep(Duration::from_millis(10));
    storage.done("vol-delete a.img --pool images");
}
