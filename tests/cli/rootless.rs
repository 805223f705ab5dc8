//! `manor daemon --user`: a user's own daemon, started as that user and never as root.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use manor_tests::apt::Release;
use manor_tests::tools;

use super::guests::write_echo;
use super::rig::{MANOR, NOBODY, Rig, kill, wait_for};

/// A user with a home, a runtime directory and a `/dev/kvm` to open, as a login gives them.
pub(crate) struct User {
    pub(crate) rig: Rig,
    daemon: Option<Child>,
}

/// Runs what follows as nobody, who may open `/dev/kvm` in here: a node of the same device lies over it. Where passt is
/// given, it is installed.
const AS_USER: &str = r#"
set -e
if test -n "$PASST"; then
    mount -t tmpfs -o mode=0755 tmpfs /usr/local/bin
    cp "$PASST" /usr/local/bin/passt
fi
rm -f "$NODE"; mknod -m 0666 "$NODE" c 10 232
mount --bind "$NODE" /dev/kvm
exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs -- "$@"
"#;

impl User {
    /// None where no such user can be made.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: only root can make a user who is to be somebody else");
            return None;
        }
        let rig = Rig::of_nobody();
        std::fs::remove_file(rig.path("manor.toml")).unwrap();
        for (name, mode) in [("home", 0o755), ("runtime", 0o700)] {
            let path = rig.path(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let user = Self { rig, daemon: None };
        let opened = user.command("/bin/sh").args(["-c", ": <>/dev/kvm"]).output().unwrap();
        if !opened.status.success() {
            let why = String::from_utf8_lossy(&opened.stderr).into_owned();
            println!("SKIP: kvm: no other user can be given /dev/kvm: {why}");
            return None;
        }
        write_echo(&user.rig);
        Some(user)
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "/bin/sh", "-c", AS_USER, "sh"])
            .arg(program.as_ref())
            .current_dir(self.rig.path("home"))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("NODE", self.rig.path(&format!("kvm-{}", uuid::Uuid::new_v4())))
            .env("HOME", self.rig.path("home"))
            .env("XDG_RUNTIME_DIR", self.rig.path("runtime"))
            .stdin(Stdio::null());
        command
    }

    fn start(&mut self) {
        self.start_with(&[], None);
    }

    pub(crate) fn start_with(&mut self, words: &[&str], passt: Option<&Path>) {
        let log = std::fs::File::create(self.rig.path("daemon.log")).unwrap();
        let mut command = self.command(self.rig.path("manor"));
        command.env("PASST", passt.unwrap_or(Path::new("")));
        command.args(["daemon", "--user"]).args(words).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(command.process_group(0).spawn().unwrap());
        wait_for("the user's daemon to answer", || self.manor(&["uri"]).is_ok());
    }

    /// As the user, without a word about where the daemon is.
    fn manor(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new(self.rig.path("manor"))
            .args(words)
            .env_clear()
            .env("HOME", self.rig.path("home"))
            .env("XDG_RUNTIME_DIR", self.rig.path("runtime"))
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    fn ok(&self, words: &[&str]) -> String {
        self.manor(words).map_err(|error| format!("{words:?}: {error}")).unwrap()
    }

    fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // It took the place of the shell that became the user.
            kill("TERM", &daemon.id().to_string());
            daemon.wait().unwrap();
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.manor(&["destroy", "echo"]);
        self.stop();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.rig.daemon_log());
        }
    }
}

/// Every path below one, links not followed.
fn below(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .flat_map(|path| {
            let is_dir = path.symlink_metadata().is_ok_and(|found| found.is_dir());
            let inner = if is_dir { below(&path) } else { Vec::new() };
            [vec![path], inner].concat()
        })
        .collect()
}

#[test]
fn a_user_runs_guests_without_root() {
    let Some(mut user) = User::new() else { return };
    user.start();
    let xml = user.rig.path("echo.xml").display().to_string();
    user.ok(&["define", &xml]);
    user.ok(&["start", "echo"]);
    assert!(user.ok(&["list"]).contains("running"));
    // What the guest is told comes back.
    let terminal = user.ok(&["ttyconsole", "echo"]);
    let mut terminal =
        std::fs::File::options().read(true).write(true).open(terminal.trim()).unwrap();
    terminal.write_all(b"hello").unwrap();
    let mut heard = String::new();
    let mut byte = [0];
    while !heard.contains("hello") {
        terminal.read_exact(&mut byte).unwrap();
        heard.push(char::from(byte[0]));
    }
    // As far as a user without privilege can confine what he starts.
    let facts = user.ok(&["security", "echo"]);
    println!("{facts}");
    let fact = |name: &str| {
        let line = facts.lines().find(|line| line.trim_start().starts_with(name));
        line.unwrap_or_else(|| panic!("no {name}: {facts}")).to_owned()
    };
    for (name, expected) in [
        ("User", "65534"),
        ("Capabilities", "none"),
        ("New privileges", "never"),
        ("Seccomp", "a filter on each thread"),
        ("Namespaces", "uts, pid"),
        ("Threads", "at most"),
        ("Root directory", "empty, read-only"),
        ("Own memory", "bytes at most"),
    ] {
        assert!(fact(name).contains(expected), "{facts}");
    }
    // It outlives its daemon, as any guest does.
    user.stop();
    user.start();
    assert_eq!(user.ok(&["domstate", "echo"]).trim(), "running");
    user.ok(&["destroy", "echo"]);
    for path in ["home", "runtime"].map(|name| user.rig.path(name)).iter().flat_map(|p| below(p)) {
        let found = path.symlink_metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (NOBODY, NOBODY), "{}", path.display());
    }
    assert!(user.rig.path("home/.local/state/manor").is_dir());
    assert!(user.rig.path("runtime/manor/api.sock").exists());
}

/// Neither root, nor the user.
const ANOTHER: u32 = 65_533;

/// What becomes of a connection of this user's: groups are none, and rights those of anybody.
fn connect_as(user: u32, socket: &Path) -> std::io::Result<()> {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    // Who one is, is a thread's own to the kernel.
    let connect = || {
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        std::os::unix::net::UnixStream::connect(socket).map(drop)
    };
    std::thread::scope(|scope| scope.spawn(connect).join().unwrap())
}

#[test]
fn another_users_clients_are_not_let_in_whatever_the_configuration_says() {
    let Some(mut user) = User::new() else { return };
    let config = user.rig.path("home/.config/manor");
    std::fs::create_dir_all(&config).unwrap();
    let open = "[api]\nsocket_mode = \"0666\"\nread_only_socket_mode = \"0666\"\nsocket_group = \"nogroup\"\n";
    std::fs::write(config.join("manor.toml"), open).unwrap();
    // The user's directories let everybody pass: the sockets have to see to it.
    let runtime = user.rig.path("runtime");
    std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = |name: &str| runtime.join("manor").join(name);
    let libvirt = socket("libvirt-sock").display().to_string();
    user.start_with(&["--libvirt-socket", &libvirt], None);
    std::fs::set_permissions(socket(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["api.sock", "api-ro.sock", "libvirt-sock"] {
        let found = std::fs::metadata(socket(name)).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777), (NOBODY, 0o600), "{name}");
        connect_as(NOBODY, &socket(name)).unwrap();
        let refused = connect_as(ANOTHER, &socket(name)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied, "{name}");
    }
}

#[test]
fn a_client_does_not_take_another_users_daemon_for_its_own() {
    let Some(mut user) = User::new() else { return };
    user.start();
    let runtime = user.rig.path("runtime");
    // A trap: it lets anybody in.
    for (path, mode) in [("", 0o755), ("manor", 0o755), ("manor/api.sock", 0o666)] {
        std::fs::set_permissions(runtime.join(path), std::fs::Permissions::from_mode(mode))
            .unwrap();
    }
    connect_as(ANOTHER, &runtime.join("manor/api.sock")).unwrap();
    let asked = |uid: u32| {
        let mut command = Command::new(user.rig.path("manor"));
        command.arg("uri").env_clear().env("XDG_RUNTIME_DIR", &runtime).uid(uid).gid(uid);
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (reached, said) = asked(NOBODY);
    assert!(reached && said.contains(&runtime.display().to_string()), "{said}");
    let (_, said) = asked(ANOTHER);
    assert!(!said.contains(&runtime.display().to_string()), "{said}");
    assert!(said.contains("/run/manor/api.sock"), "the host's own: {said}");
}

#[test]
fn what_needs_root_is_refused_by_name_with_what_does_not() {
    let Some(mut user) = User::new() else { return };
    user.start();
    let xml = std::fs::read_to_string(user.rig.path("echo.xml")).unwrap();
    for source in [
        "<interface type='bridge'><source bridge='br0'/></interface>",
        "<interface type='network'><source network='default'/></interface>",
    ] {
        let guest = user.rig.path("guest.xml");
        std::fs::write(&guest, xml.replace("</devices>", &format!("{source}</devices>"))).unwrap();
        user.ok(&["define", guest.to_str().unwrap()]);
        let error = user.manor(&["start", "echo"]).unwrap_err();
        assert!(error.contains("needs a daemon of root"), "{error}");
        assert!(error.contains("<interface type='user'/>"), "{error}");
    }
    assert!(user.ok(&["net-list", "--all", "--name"]).trim().is_empty());
    // Volumes lie where the user may write.
    let pool = user.rig.path("home/vm").display().to_string();
    user.ok(&["pool-create-as", "vm", "dir", "--target", &pool, "--build"]);
    user.ok(&["vol-create-as", "vm", "disk", "1M"]);
    assert_eq!(std::fs::metadata(user.rig.path("home/vm/disk")).unwrap().uid(), NOBODY);
}

/// Processes of the user by this name.
fn processes(name: &str) -> Vec<String> {
    let is_one = |pid: &String| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
        let is_users = read("status").is_ok_and(|told| told.contains(&format!("Uid:\t{NOBODY}\t")));
        is_users && read("comm").is_ok_and(|told| told.starts_with(name))
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().into_string().ok()).filter(is_one).collect()
}

#[test]
fn a_users_guest_has_the_network_of_its_user_by_passt() {
    let Some(mut user) = User::new() else { return };
    let passt = tools::passt(Release::Bookworm).unwrap();
    user.start();
    let xml = std::fs::read_to_string(user.rig.path("echo.xml")).unwrap();
    let interface = "<interface type='user'><backend type='passt'/><model type='virtio'/>\
                     <portForward proto='tcp' address='127.0.0.1'><range start='0' to='22'/></portForward></interface>";
    let interface = interface.replace("start='0'", &format!("start='{}'", free_port()));
    let guest = user.rig.path("guest.xml");
    std::fs::write(&guest, xml.replace("</devices>", &format!("{interface}</devices>"))).unwrap();
    user.ok(&["define", guest.to_str().unwrap()]);
    let missing = user.manor(&["start", "echo"]).unwrap_err();
    assert!(missing.contains("install the package passt"), "{missing}");
    user.stop();

    user.start_with(&[], Some(&passt.program));
    let others = processes("passt");
    user.ok(&["start", "echo"]);
    let own = || processes("passt").into_iter().find(|pid| !others.contains(pid));
    let pid = own().expect("a passt of the user's");
    assert!(user.ok(&["domiflist", "echo"]).contains("user"));
    user.ok(&["destroy", "echo"]);
    wait_for("passt to end with its guest", || own() != Some(pid.clone()));
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What docs/rootless.md tells users to write.
#[test]
fn the_users_unit_is_one_that_systemd_takes() {
    let page = manor_tests::paths::workspace().join("docs/rootless.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, unit) = page.split_once("# ~/.config/systemd/user/manor.service\n").unwrap();
    let (unit, _) = unit.split_once("```").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("manor.service");
    std::fs::write(&path, unit.replace("/usr/bin/manor", MANOR)).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["--user", "verify"]).arg(&path).env("XDG_RUNTIME_DIR", directory.path());
    let Ok(output) = verify.output() else {
        println!("SKIP: there is no systemd-analyze");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn root_is_told_whose_daemon_it_is() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: this is for root");
        return;
    }
    let rig = Rig::without_daemon();
    let refused = rig.manor(["daemon", "--user"]);
    assert_ne!(refused.status, 0);
    assert!(refused.err.contains("for other users than root"), "{}", refused.err);
}
