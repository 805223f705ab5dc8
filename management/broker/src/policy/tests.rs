#![allow(clippy::print_stderr, reason = "a test says what it could not test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Policy;
use super::running::FIRST_FREE_PORT;
use crate::{
    Broker, BrokerError, Granted, GroupAct, Ledger, Limits, Local, MountSource, Owner, Peer,
    Permissions, PoolAct, Request, Role, SavedAct, Sharing, Stdio,
};

/// A daemon's directories, others beside them, and links wherever a taken-over daemon could make some.
pub(super) struct Rig {
    dir: tempfile::TempDir,
    /// Where its guests' go.
    pub(super) cgroups: Option<PathBuf>,
}

impl Rig {
    pub(super) fn new() -> Self {
        let rig = Self { dir: tempfile::tempdir().unwrap(), cgroups: None };
        for name in ["state", "run", "images"] {
            fs::create_dir(rig.path(name)).unwrap();
        }
        symlink("/etc", rig.path("images/etc")).unwrap();
        symlink("/etc/shadow", rig.path("images/shadow")).unwrap();
        symlink("/root/.ssh/authorized_keys", rig.path("state/keys")).unwrap();
        rig
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A broker of its own each time, as after a restart.
    fn ask_with(&self, allowed: &[&Path], request: Request) -> Result<Granted, BrokerError> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let directories = vec![self.path("state")];
        let owner = Owner { uid: uid.as_raw(), gid: gid.as_raw(), directories };
        let allowed: Vec<_> = allowed.iter().map(|path| path.to_path_buf()).collect();
        let policy = Policy::new(&owner, &allowed, self.cgroups.clone(), self.ledger());
        let local = Local::new().with_policy(Some(policy)).with_cgroup_parent(self.cgroups.clone());
        // What goes on until it is killed.
        let local = local.with_program("/bin/sleep".into(), vec!["60".to_owned()]);
        local.take_up(&self.path("run"))?;
        local.perform(request, &[])
    }

    fn ledger(&self) -> Ledger {
        Ledger::open(&self.path("ledger")).unwrap()
    }

    pub(super) fn ask(&self, request: Request) -> Result<Granted, BrokerError> {
        self.ask_with(&[], request)
    }

    pub(super) fn is_refused(&self, request: Request) {
        let (asked, answer) = (format!("{request:?}"), self.ask(request));
        let refused =
            matches!(answer, Err(BrokerError::Refused { .. } | BrokerError::Stranger { .. }));
        assert!(refused, "{asked}: {answer:?}");
    }
}

fn image(path: impl Into<PathBuf>, read_only: bool) -> Request {
    Request::OpenImage { path: path.into(), read_only, direct: false, sharing: Sharing::Exclusive }
}

fn input(path: impl Into<PathBuf>) -> Request {
    Request::OpenInput { what: "kernel".to_owned(), path: path.into() }
}

fn pool(path: impl Into<PathBuf>, act: PoolAct) -> Request {
    Request::Pool { pool: path.into(), act }
}

fn create(volume: &str) -> PoolAct {
    let permissions = Permissions::default();
    PoolAct::Create { volume: volume.to_owned(), permissions, nocow: false }
}

#[test]
fn the_systems_own_files_are_not_opened_by_any_name() {
    let rig = Rig::new();
    let through = |rest: &str| rig.path("images/etc").join(rest);
    for path in [
        PathBuf::from("/etc/shadow"),
        "/etc/../etc/./shadow".into(),
        rig.path("images/shadow"),
        rig.path("images/../images/shadow"),
        through("shadow"),
        "/proc/self/environ".into(),
        "/proc/self/root/etc/passwd".into(),
        format!("/proc/{}/root/etc/passwd", std::process::id()).into(),
        format!("/proc/self/cwd/{}", "../".repeat(20) + "etc/passwd").into(),
        "/proc/sys/kernel/core_pattern".into(),
        "/dev/kmsg".into(),
        "/var/../var/log".into(),
        "etc/passwd".into(),
    ] {
        rig.is_refused(image(&path, true));
        rig.is_refused(image(&path, false));
        rig.is_refused(input(&path));
    }
    // A program may be read, and no more.
    rig.ask(input("/bin/sh")).unwrap();
    rig.is_refused(image("/bin/sh", false));
    let error = rig.ask(image(rig.path("images/shadow"), true)).unwrap_err().to_string();
    for part in ["it leads to /etc/shadow", "/etc is the system's", "allow = [\"/etc/shadow\"]"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn nothing_is_made_renamed_or_removed_there() {
    let rig = Rig::new();
    fs::write(rig.path("images/evil"), "x").unwrap();
    let cron = rig.path("images/etc/manor-evil");
    let source = || MountSource::Device { device: "/dev/none".into(), format: None };
    let (from, to) = (rig.path("images/evil"), cron.clone());
    for request in [
        Request::OpenOutput { path: cron.clone(), append: false },
        Request::OpenOutput { path: "/etc/passwd".into(), append: true },
        Request::Saved(SavedAct::Create { path: cron.clone(), in_new_dir: false }),
        Request::Saved(SavedAct::Create { path: "/etc/evil.d/x".into(), in_new_dir: true }),
        Request::Saved(SavedAct::Create { path: "/root/.ssh/x".into(), in_new_dir: true }),
        Request::Saved(SavedAct::Open { path: "/etc/passwd".into() }),
        Request::Saved(SavedAct::Rename { from, to }),
        Request::Saved(SavedAct::Rename { from: "/etc/passwd".into(), to: rig.path("images/p") }),
        Request::Saved(SavedAct::Name { from: "/etc/passwd".into(), to: rig.path("images/p") }),
        Request::Saved(SavedAct::Remove { path: "/etc/passwd".into() }),
        Request::MakeVariables {
            path: cron.clone(),
            template: Some("/bin/sh".into()),
            reset: false,
        },
        Request::RemoveVariables { path: rig.path("images/etc/passwd") },
        Request::Listen { path: cron.clone() },
        Request::MakeRunDir { path: "/etc/run".into() },
        Request::RemoveRunDir { path: rig.path("images") },
        Request::LockRunDir { path: "/etc".into() },
        pool("/etc", PoolAct::Build(Permissions { owner: Some(65534), ..Permissions::default() })),
        pool("/etc/x", PoolAct::Build(Permissions::default())),
        pool("/", PoolAct::Build(Permissions::default())),
        pool(rig.path("images/etc"), create("evil")),
        pool(rig.path("images/etc"), PoolAct::Remove { volume: "passwd".to_owned() }),
        pool("/etc/opt", PoolAct::Delete),
        pool("/etc", PoolAct::Mount(source())),
        pool("/usr", PoolAct::Unmount(source())),
        Request::Spawn {
            role: Role::Domain,
            name: "evil".to_owned(),
            stdio: Stdio::Log(cron.clone()),
            cgroup: None,
            limits: Limits::default(),
        },
    ] {
        rig.is_refused(request);
    }
    assert!(fs::symlink_metadata("/etc/manor-evil").is_err());
    assert!(fs::symlink_metadata("/root/.ssh/x").is_err());
    assert_eq!(fs::read_to_string(rig.path("images/evil")).unwrap(), "x");
}

#[test]
fn images_lie_where_people_have_them() {
    let rig = Rig::new();
    let disk = rig.path("images/disk.img");
    fs::write(&disk, [0; 4096]).unwrap();
    symlink(&disk, rig.path("images/link")).unwrap();
    rig.ask(image(&disk, false)).unwrap();
    rig.ask(image(rig.path("images/link"), false)).unwrap();
    rig.ask(pool(rig.path("images/new/pool"), PoolAct::Build(Permissions::default()))).unwrap();
    rig.ask(pool(rig.path("images/new/pool"), create("v"))).unwrap();
    rig.ask(pool(rig.path("images/new/pool"), PoolAct::Remove { volume: "v".to_owned() })).unwrap();
    rig.ask(pool(rig.path("images/new/pool"), PoolAct::Delete)).unwrap();
    let path = rig.path("images/saved/state");
    rig.ask(Request::Saved(SavedAct::Create { path: path.clone(), in_new_dir: true })).unwrap();
    let to = rig.path("images/state");
    rig.ask(Request::Saved(SavedAct::Rename { from: path, to: to.clone() })).unwrap();
    rig.ask(Request::Saved(SavedAct::Remove { path: to.clone() })).unwrap();
    rig.ask(Request::Saved(SavedAct::Remove { path: to })).unwrap();
    rig.ask(Request::Listen { path: rig.path("images/sock") }).unwrap();
    rig.ask(Request::OpenOutput { path: rig.path("images/log"), append: false }).unwrap();
    rig.ask(Request::OpenOutput { path: "/dev/null".into(), append: false }).unwrap();
    let error = rig.ask(image(rig.path("images/none"), false)).unwrap_err();
    assert!(matches!(error, BrokerError::Missing { .. }), "{error}");
}

#[test]
fn what_is_there_is_told_of_guests_places_alone_and_so_is_that_nothing_is() {
    let rig = Rig::new();
    let disk = rig.path("images/disk.img");
    fs::write(&disk, [0; 4096]).unwrap();
    for (to, name) in
        [(disk.as_path(), "link"), ("/etc/manor-none".as_ref(), "lost"), ("lost/x".as_ref(), "far")]
    {
        symlink(to, rig.path("images").join(name)).unwrap();
    }
    let stat = |path: &Path, follow| rig.ask(Request::Stat { path: path.to_owned(), follow });
    let size = |name: &str| match stat(&rig.path("images").join(name), true).unwrap() {
        Granted::Stat(found) => found.map(|found| found.size),
        other => panic!("{other:?}"),
    };
    assert_eq!((size("disk.img"), size("link")), (Some(4096), Some(4096)));
    assert_eq!((size("none"), size("none/none"), size("disk.img/x")), (None, None, None));
    let real = rig.ask(Request::RealPath { path: rig.path("images/link") }).unwrap();
    assert!(
        matches!(&real, Granted::Path(real) if *real == disk.canonicalize().unwrap()),
        "{real:?}"
    );

    for path in [
        "/etc/shadow".into(),
        "/etc/manor-none".into(),
        "/etc/passwd/x".into(),
        "/root/.ssh".into(),
        rig.path("images/shadow"),
        rig.path("images/etc/passwd"),
        rig.path("images/etc/manor-none"),
        rig.path("images/lost"),
        rig.path("images/lost/x"),
        rig.path("images/far"),
        rig.path("images/far/x"),
    ] {
        rig.is_refused(Request::Stat { path: path.clone(), follow: true });
        rig.is_refused(Request::RealPath { path: path.clone() });
        rig.is_refused(image(&path, true));
        rig.is_refused(Request::Saved(SavedAct::Remove { path: path.join("x") }));
    }
    // A link is in its own place.
    for name in ["images/shadow", "images/lost"] {
        assert!(matches!(stat(&rig.path(name), false), Ok(Granted::Stat(Some(_)))), "{name}");
    }
    rig.ask_with(&[Path::new("/etc")], Request::RealPath { path: "/etc/passwd".into() }).unwrap();
}

#[test]
fn what_runs_as_somebody_else_is_not_written() {
    let rig = Rig::new();
    let program = rig.path("images/program");
    fs::write(&program, "x").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    rig.is_refused(image(&program, false));
    rig.is_refused(Request::OpenOutput { path: program.clone(), append: false });
    assert_eq!(fs::read_to_string(&program).unwrap(), "x", "it was emptied");
    let permissions = Permissions { mode: Some(0o4755), ..Permissions::default() };
    let volume = "v".to_owned();
    rig.ask(pool(rig.path("images"), PoolAct::Create { volume, permissions, nocow: false }))
        .unwrap();
    let mode = fs::metadata(rig.path("images/v")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn root_allows_more_and_what_lies_deeper_stays_closed() {
    let rig = Rig::new();
    let passwd = Path::new("/etc/passwd");
    rig.ask_with(&[passwd], image(passwd, true)).unwrap();
    rig.ask_with(&[Path::new("/etc")], image(passwd, true)).unwrap();
    let error = rig.ask_with(&[Path::new("/")], image(passwd, true)).unwrap_err();
    assert!(matches!(error, BrokerError::Refused { .. }), "{error}");
}

#[test]
fn homes_are_for_images_and_what_is_hidden_in_them_is_not() {
    let owner = Owner { uid: 1, gid: 1, directories: Vec::new() };
    let policy = Policy::new(&owner, &[], None, Rig::new().ledger());
    let may = |path: &str| policy.place(Path::new(path), super::Wish::Write).is_ok();
    for path in [
        "/home/alice/vm/disk.qcow2",
        "/home/alice/disk.img",
        "/home/alice/vm/.manor-1.partial",
        "/home/alice/.local/share/libvirt/images/disk.img",
        "/data/disk.img",
        "/vm",
        "/var/lib/libvirt/images/x",
        "/run/media/alice/stick/x.iso",
    ] {
        assert!(may(path), "{path}");
    }
    for path in [
        "/home",
        "/home/alice",
        "/home/alice/.bashrc",
        "/home/alice/.ssh/authorized_keys",
        "/home/alice/.local/share/libvirt/.x",
        "/home/alice/.local/bin/x",
        "/",
        "/var/spool/cron/root",
        "/run/docker.sock",
        "/opt/vm/disk.img",
        "/sys/kernel/uevent_helper",
    ] {
        assert!(!may(path), "{path}");
    }
}

#[test]
fn sockets_of_the_host_are_not_connected_to_as_root() {
    let rig = Rig::new();
    let socket = rig.path("images/nbd.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    rig.ask(Request::Connect(Peer::Unix { path: socket })).unwrap();
    fs::create_dir_all("/run/manor-test").ok();
    let closed = Path::new("/run/manor-test/closed.sock");
    let _ = fs::remove_file(closed);
    if let Ok(_listener) = std::os::unix::net::UnixListener::bind(closed) {
        symlink(closed, rig.path("images/link.sock")).unwrap();
        rig.is_refused(Request::Connect(Peer::Unix { path: closed.into() }));
        rig.is_refused(Request::Connect(Peer::Unix { path: rig.path("images/link.sock") }));
        fs::remove_file(closed).unwrap();
    }
}

/// A file as a device with a file system, mounted and gone with this value.
struct Device {
    path: PathBuf,
    on: PathBuf,
}

impl Device {
    /// None where that cannot be made.
    fn new(rig: &Rig) -> Option<Self> {
        let file = rig.path("device");
        fs::File::create(&file).ok()?.set_len(8 << 20).ok()?;
        let run = |words: &[&str]| {
            let output = Command::new(words[0]).args(&words[1..]).output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            output.status.success().then(|| text.trim().to_owned())
        };
        run(&["mkfs.ext4", "-q", file.to_str()?])?;
        let path = PathBuf::from(run(&["losetup", "--find", "--show", file.to_str()?])?);
        Some(Self { path, on: rig.path("on") })
    }

    fn mount(&self) -> bool {
        fs::create_dir(&self.on).unwrap();
        let mut mount = Command::new("mount");
        mount.arg(&self.path).arg(&self.on).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.on).output();
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).output();
    }
}

#[test]
fn a_device_that_the_host_uses_is_no_disk() {
    let rig = Rig::new();
    let Some(device) = Device::new(&rig) else {
        eprintln!("SKIP: no loop device with a file system can be made here");
        return;
    };
    let path = device.path.as_path();
    let image = |read_only| {
        let (path, sharing) = (path.to_owned(), Sharing::Shared);
        Request::OpenImage { path, read_only, direct: false, sharing }
    };
    let link = rig.path("images/link");
    symlink(path, &link).unwrap();
    rig.ask(image(false)).unwrap();
    if !device.mount() {
        eprintln!("SKIP: nothing can be mounted here");
        return;
    }
    rig.is_refused(image(true));
    rig.is_refused(image(false));
    fs::create_dir(rig.path("images/there")).unwrap();
    for device in [path.to_owned(), link] {
        let source = MountSource::Device { device: device.clone(), format: None };
        rig.is_refused(pool(rig.path("images/there"), PoolAct::Mount(source)));
        let group = "vg".to_owned();
        rig.is_refused(Request::Group { group, act: GroupAct::Build { devices: vec![device] } });
    }
    rig.ask_with(&[path], image(true)).unwrap();
}

#[test]
fn no_file_system_but_one_of_a_device_is_mounted() {
    let rig = Rig::new();
    for format in ["proc", "sysfs", "binfmt_misc", "tmpfs", "overlay", "bpf"] {
        let source =
            MountSource::Device { device: "/bin/sh".into(), format: Some(format.to_owned()) };
        let error = Local::new()
            .perform(pool(rig.path("images"), PoolAct::Mount(source)), &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("of format {format:?}")), "{error}");
    }
}

#[test]
fn ports_that_take_privilege_are_the_hosts_own() {
    let rig = Rig::new();
    let listen = |first, last| {
        rig.ask(Request::ListenTcp { address: std::net::Ipv4Addr::LOCALHOST.into(), first, last })
    };
    let free: u16 = fs::read_to_string(FIRST_FREE_PORT).unwrap().trim().parse().unwrap();
    for first in [1, 22, free.saturating_sub(1)].into_iter().filter(|first| *first < free) {
        for last in [first, 65_535] {
            let error = listen(first, last).unwrap_err().to_string();
            let words =
                format!("port {first} is for the host's own services, as are all below {free}");
            assert!(error.contains(&words), "{error}");
        }
    }
    listen(free.max(1), 65_535).unwrap();
}

/// Hosts differ in it, and network namespaces are hosts as to that.
#[test]
fn which_ports_take_privilege_is_what_the_host_says() {
    // Its loopback is down, and can be listened at all the same.
    let script = "echo $0 >/proc/sys/net/ipv4/ip_unprivileged_port_start && \
                  echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind && exec \"$@\"";
    for free in ["0", "80", "30000"] {
        let mut apart = Command::new("unshare");
        apart.args(["--user", "--map-root-user", "--net", "sh", "-c", script, free]);
        let probe = Command::new("unshare").args(apart.get_args()).arg("true").output();
        if !probe.is_ok_and(|probe| probe.status.success()) {
            return eprintln!("SKIP: there are no namespaces for this user (unshare --user --net)");
        }
        let test = "policy::tests::ports_that_take_privilege_are_the_hosts_own";
        let ended = apart.arg(std::env::current_exe().unwrap()).args(["--exact", test]).output();
        let ended = ended.unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success() && said.contains("1 passed"), "from {free} on: {said}");
    }
}
