//! A daemon in a directory of its own, and ways to ask it.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use manor_tests::warden::Warden;
use tempfile::TempDir;

pub(crate) const MANOR: &str = env!("CARGO_BIN_EXE_manor");

/// Generous: the machine may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// uid and gid of nobody, who may do nothing special.
pub(crate) const NOBODY: u32 = 65534;

pub(crate) struct Rig {
    /// Guests that a failed test leaves, or one that is killed.
    _warden: Warden,
    pub(crate) directory: TempDir,
    pub(crate) binary: PathBuf,
    /// Whose processes these are; our own user's if none.
    user: Option<u32>,
    /// The network namespace that they are in; that of the tests if none.
    namespace: Option<String>,
    daemon: Option<Child>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) status: i32,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let mut rig = Self::without_daemon();
        rig.start_daemon();
        rig
    }

    pub(crate) fn without_daemon() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rig = Self {
            _warden: Warden::over(directory.path(), "", &[]).unwrap(),
            directory,
            binary: MANOR.into(),
            user: None,
            namespace: None,
            daemon: None,
        };
        let root = rig.directory.path().display().to_string();
        let config = format!(
            "state_dir = \"{root}/state\"\nrun_dir = \"{root}/run\"\nlog_dir = \"{root}/log\"\n\
             user = \"nobody\"\n\
             [api]\nsocket = \"{root}/run/api.sock\"\nread_only_socket = \"{root}/run/api-ro.sock\"\n\
             socket_group = \"\"\n\
             [libvirt]\nsocket = \"{root}/run/libvirt-sock\"\n\
             read_only_socket = \"{root}/run/libvirt-sock-ro\"\n"
        );
        std::fs::write(rig.path("manor.toml"), config).unwrap();
        // The daemon, where it is begun as root, becomes nobody, and passes through.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(rig.directory.path(), open).unwrap();
        rig
    }

    /// Everything in it runs in a network namespace. Only root can make one.
    pub(crate) fn in_namespace(name: &str) -> Self {
        let mut rig = Self::without_daemon();
        rig.namespace = Some(name.to_owned());
        rig.start_daemon();
        rig
    }

    /// Everything in it runs as nobody. Only root can make one.
    pub(crate) fn of_nobody() -> Self {
        let mut rig = Self::without_daemon();
        // Where nobody can reach it, wherever it was built.
        rig.binary = rig.path("manor");
        // By another process: a file that a fork of ours has open for writing cannot be run.
        let copied = Command::new("cp").arg(MANOR).arg(&rig.binary).status().unwrap();
        assert!(copied.success());
        std::os::unix::fs::chown(rig.directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        rig.user = Some(NOBODY);
        rig
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns when it answers.
    pub(crate) fn start_daemon(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("daemon.log"))
            .unwrap();
        let child = self
            .command(&self.binary)
            .args(["daemon", "--config"])
            .arg(self.path("manor.toml"))
            .env_remove("RUST_LOG")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(child);
        wait_for("the daemon to answer", || self.manor(["uri"]).status == 0);
    }

    pub(crate) fn daemon_pid(&self) -> i32 {
        i32::try_from(self.daemon.as_ref().unwrap().id()).unwrap()
    }

    /// Send a signal and wait for the end; the exit status, or none if the signal ended it.
    pub(crate) fn end_daemon(&mut self, signal: &str) -> Option<i32> {
        kill(signal, &self.daemon_pid().to_string());
        self.wait_for_daemon()
    }

    /// As for [`end_daemon`](Self::end_daemon), when it ends by itself.
    pub(crate) fn wait_for_daemon(&mut self) -> Option<i32> {
        let status = self.daemon.take().unwrap().wait().unwrap();
        assert!(status.signal().is_none_or(|number| number == 9), "{status}");
        status.code()
    }

    pub(crate) fn manor<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Outcome {
        self.run(&self.binary, args)
    }

    /// The same binary by the name of `virsh`.
    pub(crate) fn virsh<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Outcome {
        let link = self.path("virsh");
        if !link.exists() {
            std::os::unix::fs::symlink(MANOR, &link).unwrap();
        }
        self.run(&link, args)
    }

    fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, binary: &Path, args: I) -> Outcome {
        let output = self.command(binary).args(args).output().unwrap();
        Outcome {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code().unwrap_or(-1),
        }
    }

    /// A command in the rig's directory that talks to the rig's daemon.
    pub(crate) fn command(&self, binary: &Path) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(binary),
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(binary);
                command
            }
        };
        command
            .current_dir(self.directory.path())
            .env("MANOR_URI", self.path("run/api.sock"))
            .stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.daemon.is_none() {
            return;
        }
        // Guests outlive their daemon by design; no test leaves one behind.
        for domain in self.manor(["list", "--name"]).out.lines().filter(|line| !line.is_empty()) {
            self.manor(["destroy", domain]);
        }
        self.end_daemon("TERM");
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.daemon_log());
        }
    }
}

pub(crate) fn kill(signal: &str, pid: &str) {
    assert!(Command::new("kill").args(["-s", signal, pid]).status().unwrap().success());
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A definition that is complete and cannot start: its kernel does not exist.
pub(crate) fn definition(name: &str, uuid: &str) -> String {
    format!(
        "<domain type='kvm'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <title>A title</title>
  <memory unit='MiB'>512</memory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>/nonexistent/vmlinuz</kernel></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/var/lib/x/disk.img'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='bridge'>
      <mac address='52:54:00:11:22:33'/>
      <source bridge='br0'/>
      <model type='virtio'/>
    </interface>
    <serial type='pty'/>
  </devices>
</domain>
"
    )
}

pub(crate) const UUID: &str = "11111111-2222-3333-4444-555555555555";
