//! A daemon with a directory, a network namespace and cgroups of its own, whose processes can be told
//! from all others.

use std::future::Future;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use api::client::{Client, ClientError, Endpoint};
use api::types::{self, JobPhase};
use manor_tests::doom::Doomed;
use manor_tests::warden::Warden;
use tempfile::TempDir;

use super::guest::{self, Process};

pub(crate) const MANOR: &str = env!("CARGO_BIN_EXE_manor");

/// Generous: the machine may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What else a rig leaves on the host: the names of its namespace and of its cgroup.
/// A process that was killed is in its cgroup until it has ended.
const AFTERWARDS: &str = r#"
ip netns delete "$1"
tries=0
while test -d "$2" -a $tries -lt 100; do
    find "$2" -depth -type d -exec rmdir {} +
    sleep 0.05
    tries=$((tries + 1))
done
"#;

pub(crate) struct Rig {
    pub(crate) directory: TempDir,
    /// Which binary its daemons are of.
    pub(crate) binary: PathBuf,
    /// In the names of its domains, so that their processes are known.
    pub(crate) tag: String,
    namespace: String,
    cgroups: Option<PathBuf>,
    runtime: tokio::runtime::Runtime,
    pub(crate) client: Client,
    /// The first to go, with whatever the rig has started.
    warden: Option<Warden>,
}

/// Why a call did not do what it is there for.
pub(crate) enum Trouble {
    /// The daemon died on the way.
    Died,
    /// It lives, and said no.
    Refused(String),
}

impl std::fmt::Debug for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Died => f.write_str("the daemon died"),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

impl Rig {
    /// None where there can be none, with the reason.
    pub(crate) fn new(part: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
            println!("SKIP: /dev/kvm cannot be opened");
            return None;
        }
        if !rustix::process::geteuid().is_root() || Command::new("ip").arg("-V").output().is_err() {
            println!("SKIP: network namespaces need root and the command ip (iproute2)");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{part}{}x{number}", std::process::id());
        let namespace = format!("manor-{tag}");
        let made = Command::new("ip").args(["netns", "add", &namespace]).status().unwrap();
        assert!(made.success(), "ip netns add {namespace}");
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("run/api.sock");
        let cgroups = cgroups();
        let warden = {
            let groups = cgroups.as_ref().map(|mount| mount.join(format!("manor-{tag}")));
            let groups = groups.unwrap_or_else(|| directory.path().join("none"));
            Warden::over(directory.path(), AFTERWARDS, &[namespace.as_ref(), groups.as_os_str()])
        };
        let rig = Self {
            warden: Some(warden.unwrap()),
            binary: MANOR.into(),
            tag,
            namespace,
            cgroups,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            client: Client::new(Endpoint::Unix(socket)),
            directory,
        };
        rig.configure();
        std::fs::write(rig.path("polling"), guest::polling()).unwrap();
        std::fs::write(rig.path("resting"), guest::resting()).unwrap();
        std::fs::create_dir(rig.path("disks")).unwrap();
        Some(rig)
    }

    fn configure(&self) {
        let root = self.directory.path().display().to_string();
        let cgroup = self
            .cgroups
            .as_ref()
            .map(|_| format!("cgroup = \"/sys/fs/cgroup/manor-{}\"\n", self.tag));
        let cgroup = cgroup.unwrap_or_default();
        let config = format!(
            "state_dir = \"{root}/state\"\nrun_dir = \"{root}/run\"\nlog_dir = \"{root}/log\"\n\
             [api]\nsocket = \"{root}/run/api.sock\"\nread_only_socket = \"{root}/run/api-ro.sock\"\n\
             socket_group = \"\"\n\
             [libvirt]\nsocket = \"{root}/run/libvirt-sock\"\n\
             read_only_socket = \"{root}/run/libvirt-sock-ro\"\n\
             [domains]\nstart_timeout = 120\ncommand_timeout = 60\n{cgroup}"
        );
        std::fs::write(self.path("manor.toml"), config).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where its guests' cgroups are, on a host that has any.
    fn cgroup(&self) -> Option<PathBuf> {
        Some(self.cgroups.as_ref()?.join(format!("manor-{}", self.tag)))
    }

    /// The daemon, as a command.
    pub(crate) fn daemon(&self) -> Command {
        let log = std::fs::File::options().create(true).append(true).open(self.path("daemon.log"));
        // The command hides all of /sys behind one that knows the namespace, the cgroups as well.
        let groups = "mount -t cgroup2 cgroup2 /sys/fs/cgroup";
        let script = format!("{groups} || true; exec \"$1\" daemon --config \"$0\"");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "sh", "-c", &script]);
        command.arg(self.path("manor.toml")).arg(&self.binary);
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(log.unwrap());
        command
    }

    /// The daemon, when it answers. It ends with what comes back.
    pub(crate) fn start_daemon(&self) -> Daemon {
        let daemon = Daemon(self.daemon().spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        while self.ask(self.client.node()).is_err() {
            assert!(Instant::now() < until, "the daemon does not answer:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon
    }

    /// The processes of a domain.
    pub(crate) fn processes_of(&self, domain: &str) -> Vec<Process> {
        let guests = self.guests().into_iter().filter(|(name, _)| name == domain);
        guests.map(|(_, process)| process).collect()
    }

    /// Its last words.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.path("daemon.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Work that goes on while others are waited for.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(work)
    }

    /// A call, or why it came to nothing; a daemon that was killed answers nothing.
    pub(crate) fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, Trouble> {
        match self.wait(async { tokio::time::timeout(PATIENCE * 2, call).await }) {
            Err(_) => Err(Trouble::Refused("no answer".to_owned())),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(ClientError::Refused(problem))) => Err(Trouble::Refused(format!("{problem:?}"))),
            Ok(Err(_)) => Err(Trouble::Died),
        }
    }

    /// A job, to its end.
    pub(crate) fn finish(&self, job: &types::Job) -> Result<(), Trouble> {
        let until = Instant::now() + PATIENCE * 2;
        while Instant::now() < until {
            let job = self.ask(self.client.job(&job.id.to_string(), 2000))?;
            match job.phase {
                JobPhase::Running => {}
                JobPhase::Done => return Ok(()),
                _ => return Err(Trouble::Refused(format!("{job:?}"))),
            }
        }
        Err(Trouble::Refused(format!("it does not end: {job:?}")))
    }

    /// Wait until it answers; `false` if it dies before.
    pub(crate) fn is_up(&self, daemon: &Doomed) -> bool {
        let until = Instant::now() + PATIENCE;
        loop {
            if self.ask(self.client.node()).is_ok() {
                return true;
            }
            if daemon.is_over() {
                return false;
            }
            assert!(Instant::now() < until, "the daemon does not answer:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Processes of guests, by the names of their domains.
    pub(crate) fn guests(&self) -> Vec<(String, Process)> {
        let all = guest::processes().into_iter().filter_map(|(pid, line)| {
            let name = line.strip_prefix("manor guest=")?.split(' ').next()?.to_owned();
            name.ends_with(&self.tag).then_some(())?;
            Some((name, Process::of(pid)?))
        });
        let mut all: Vec<_> = all.collect();
        all.sort();
        all
    }

    /// Processes that have this rig's daemon in their command lines: it, or what it was about to
    /// make another of.
    pub(crate) fn daemons(&self) -> Vec<u32> {
        let config = self.path("manor.toml").display().to_string();
        let all = guest::processes().into_iter().filter(|(_, line)| line.contains(&config));
        all.filter(|(pid, _)| Process::of(*pid).is_some()).map(|(pid, _)| pid).collect()
    }

    /// Names of its guests' cgroups.
    pub(crate) fn groups(&self) -> Vec<String> {
        self.cgroup().map(|path| names(&path.join("domains"))).unwrap_or_default()
    }

    /// Network devices of the daemon's host but its loopback and bridges.
    pub(crate) fn taps(&self, daemon: i32) -> Vec<String> {
        let table = std::fs::read_to_string(format!("/proc/{daemon}/net/dev")).unwrap_or_default();
        let names = table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
        let taps = names.filter(|name| *name != "lo" && !name.starts_with("virbr"));
        taps.map(str::to_owned).collect()
    }
}

/// A daemon that is killed when it is not needed any more.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is in a directory, if there is one.
pub(crate) fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter(|entry| !dir.ends_with("domains") || entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The hierarchy of version 2, where it is mounted.
fn cgroups() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    Some(PathBuf::from(mount.split(' ').nth(1)?))
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Guests outlive their daemon by design; no test leaves one behind.
        drop(self.warden.take());
    }
}
