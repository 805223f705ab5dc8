//! `manor setup`: from this one file to a service. Everything it writes is in the binary; doing it
//! again changes nothing; `--remove` undoes it and leaves what people made.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use management::config::USER;
use management::passwd::{self, PASSWD};

use crate::args::Setup;
use crate::config;
use crate::daemon::group_id;
use crate::failure::{Failure, reason};
use crate::run_broker;
use crate::terminal::Terminal;

const GROUP: &str = "manor";
const UNITS: &[(&str, &str)] = &[
    ("manor.service", include_str!("../resources/systemd/manor.service")),
    ("manor-guests.service", include_str!("../resources/systemd/manor-guests.service")),
    ("manor.socket", include_str!("../resources/systemd/manor.socket")),
    ("manor-ro.socket", include_str!("../resources/systemd/manor-ro.socket")),
];
const UNIT_DIR: &str = "etc/systemd/system";
const SYSUSERS: &str = "etc/sysusers.d/manor.conf";
const SYSUSERS_TEXT: &str = include_str!("../resources/systemd/sysusers.conf");
const CONFIG: &str = "etc/manor/manor.toml";
/// By which libvirt's clients that come through ssh find us; looked for in PATH.
const SSH_HELPER: &str = "usr/local/bin/virt-ssh-helper";
/// Where virt-install puts what a guest is installed from, and makes a pool if it may not write there itself.
const INSTALL_DIR: &str = "var/lib/libvirt/boot";
const STATE_DIR: &str = "var/lib/manor";
const RUN_DIR: &str = "/run/manor";
/// With their modes: what lies in the state directory has modes of its own.
const DIRECTORIES: &[(&str, u32)] =
    &[("etc/manor", 0o755), (STATE_DIR, 0o711), ("var/log/manor", 0o750)];

pub(crate) fn setup(args: &Setup, terminal: &Terminal) -> Result<(), Failure> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()
            .map_err(|error| Failure::other(format!("where is this binary? {error}")))?,
    };
    if binary.to_str().is_none_or(|path| path.contains(['\n', '"', '%', '\\'])) {
        return Err(Failure::other(format!("{binary:?} is no path for a unit file")));
    }
    let live = args.root == Path::new("/");
    let systemd = live && Path::new("/run/systemd/system").exists();
    let work = Work { root: &args.root, binary, terminal, live, systemd };
    if args.remove { work.remove(args.purge) } else { work.install(!args.no_start) }
}

struct Work<'a> {
    root: &'a Path,
    binary: PathBuf,
    terminal: &'a Terminal,
    /// On the running system, and not on some image's root.
    live: bool,
    /// Which is managed by systemd.
    systemd: bool,
}

impl Work<'_> {
    fn install(&self, start: bool) -> Result<(), Failure> {
        for (directory, mode) in DIRECTORIES {
            self.directory(&self.root.join(directory), *mode)?;
        }
        self.user()?;
        let config = self.root.join(CONFIG);
        if config.exists() {
            self.told(&config, "kept");
        } else {
            self.file(&config, config::TEMPLATE, 0o644)?;
        }
        self.ssh_helper()?;
        // Readable by nobody else: kernels are, but seeds have passwords in them.
        self.directory(&self.root.join(INSTALL_DIR), 0o711)?;
        let mut changed = false;
        for (name, text) in UNITS {
            let path = self.root.join(UNIT_DIR).join(name);
            changed |= self.file(&path, &self.unit(text), 0o644)?;
        }
        if !self.live || !start {
            return Ok(());
        }
        if !self.systemd {
            self.terminal.warn("systemd does not run here; start the daemon with 'manor daemon'");
            return Ok(());
        }
        if changed {
            self.systemctl(&["daemon-reload"])?;
        }
        self.systemctl(&["enable", "--now", "manor.socket", "manor-ro.socket", "manor.service"])?;
        self.systemctl(&["enable", "--now", "manor-guests.service"])?;
        self.terminal.say("the daemon runs; try 'manor list --all'\n");
        Ok(())
    }

    fn remove(&self, purge: bool) -> Result<(), Failure> {
        if self.live {
            still_running(Path::new(RUN_DIR))?;
        }
        let units: Vec<_> = UNITS.iter().map(|(name, _)| *name).collect();
        if self.systemd && self.root.join(UNIT_DIR).join(units[0]).exists() {
            self.systemctl(&[&["disable", "--now"][..], &units].concat())?;
        }
        for name in units {
            self.gone(&self.root.join(UNIT_DIR).join(name))?;
        }
        if self.systemd {
            self.systemctl(&["daemon-reload"])?;
        }
        let sysusers = self.root.join(SYSUSERS);
        self.gone(&sysusers)?;
        if let Some(directory) = sysusers.parent() {
            // Few systems have one; empty it says nothing, and others' files keep it.
            let _ = std::fs::remove_dir(directory);
        }
        let helper = self.root.join(SSH_HELPER);
        // Of this binary, wherever it lay when it made the link.
        let target = std::fs::read_link(&helper);
        if target.is_ok_and(|target| target.file_name() == self.binary.file_name()) {
            self.gone(&helper)?;
        }
        self.install_dir_gone();
        if self.live {
            let run_dir = Path::new(RUN_DIR);
            self.tree_gone(run_dir)?;
            self.tree_gone(&run_broker::ledger_beside(run_dir))?;
        }
        let config = self.root.join(CONFIG);
        match std::fs::read_to_string(&config) {
            Ok(text) if purge || text == config::TEMPLATE => self.gone(&config)?,
            Ok(_) => self.told(&config, "kept: it was changed"),
            Err(_) => {}
        }
        if !has_definitions(&self.root.join(STATE_DIR)) {
            // Nothing is in it but what the daemon makes at every start.
            self.tree_gone(&self.root.join(STATE_DIR))?;
        }
        for (directory, _) in DIRECTORIES {
            let path = self.root.join(directory);
            if purge {
                self.tree_gone(&path)?;
                continue;
            }
            match std::fs::remove_dir(&path) {
                Ok(()) => self.told(&path, "removed"),
                Err(_) if path.exists() => {
                    self.told(&path, "kept: it is not empty (--purge removes it)");
                }
                Err(_) => {}
            }
        }
        if self.live {
            self.identities_gone()?;
        }
        Ok(())
    }

    /// The user and the group, unless somebody has something of theirs: numbers are given out again.
    fn identities_gone(&self) -> Result<(), Failure> {
        let has_files = |(directory, _): &(&str, u32)| self.root.join(directory).exists();
        if DIRECTORIES.iter().filter(|it| it.0 != "etc/manor").any(has_files) {
            self.terminal.say(&format!("user '{USER}' kept: what is left belongs to it\n"));
            return Ok(());
        }
        self.user_gone()?;
        self.group_gone()
    }

    fn unit(&self, text: &str) -> String {
        text.replace("@BINARY@", &self.binary.display().to_string())
    }

    fn directory(&self, path: &Path, mode: u32) -> Result<(), Failure> {
        if path.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(path)
            .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
            .map_err(|error| failed("create", path, &error))?;
        self.told(path, "created");
        Ok(())
    }

    /// Whether the file had to be changed.
    fn file(&self, path: &Path, text: &str, mode: u32) -> Result<bool, Failure> {
        if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
            return Ok(false);
        }
        let had = path.exists();
        let new = path.with_extension("new");
        let directory = path.parent().unwrap_or(self.root);
        std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::write(&new, text))
            .and_then(|()| std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode)))
            .and_then(|()| std::fs::rename(&new, path))
            .map_err(|error| failed("write", path, &error))?;
        self.told(path, if had { "updated" } else { "written" });
        Ok(true)
    }

    /// Another program of this name, libvirt's own perhaps, is left alone.
    fn ssh_helper(&self) -> Result<(), Failure> {
        let path = self.root.join(SSH_HELPER);
        match std::fs::read_link(&path) {
            Ok(target) if target == self.binary => return Ok(()),
            _ if std::fs::symlink_metadata(&path).is_ok() => {
                self.told(&path, "kept: it is not ours");
                return Ok(());
            }
            _ => {}
        }
        let directory = path.parent().unwrap_or(self.root);
        std::fs::create_dir_all(directory)
            .and_then(|()| std::os::unix::fs::symlink(&self.binary, &path))
            .map_err(|error| failed("link", &path, &error))?;
        self.told(&path, "written");
        Ok(())
    }

    fn gone(&self, path: &Path) -> Result<(), Failure> {
        match std::fs::remove_file(path) {
            Ok(()) => {
                self.told(path, "removed");
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", path, &error)),
        }
    }

    /// With anything in it or beside it, it is libvirt's, or in use.
    fn install_dir_gone(&self) {
        let path = self.root.join(INSTALL_DIR);
        let Some(above) = path.parent() else { return };
        let alone = std::fs::read_dir(above).is_ok_and(|entries| entries.count() == 1);
        if alone && std::fs::remove_dir(&path).is_ok() {
            self.told(&path, "removed");
            let _ = std::fs::remove_dir(above);
        }
    }

    fn tree_gone(&self, path: &Path) -> Result<(), Failure> {
        match std::fs::remove_dir_all(path) {
            Ok(()) => {
                self.told(path, "removed");
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", path, &error)),
        }
    }

    fn user_gone(&self) -> Result<(), Failure> {
        if passwd::find(USER, Path::new(PASSWD)).is_none() {
            return Ok(());
        }
        run("userdel", &[USER])?;
        self.terminal.say(&format!("user '{USER}' removed\n"));
        Ok(())
    }

    /// Members were added by people, who may have meant more by it.
    fn group_gone(&self) -> Result<(), Failure> {
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let ours = groups.lines().find(|line| line.split(':').next() == Some(GROUP));
        let Some(line) = ours else { return Ok(()) };
        if line.split(':').nth(3).is_some_and(|members| !members.is_empty()) {
            self.terminal.say(&format!("group '{GROUP}' kept: it has members\n"));
            return Ok(());
        }
        run("groupdel", &[GROUP])?;
        self.terminal.say(&format!("group '{GROUP}' removed\n"));
        Ok(())
    }

    /// systemd-sysusers makes the user and its group at the next boot of an image; on a running system
    /// they are made now.
    fn user(&self) -> Result<(), Failure> {
        self.file(&self.root.join(SYSUSERS), SYSUSERS_TEXT, 0o644)?;
        if !self.live {
            return Ok(());
        }
        if group_id(GROUP, Path::new("/etc/group")).is_none() {
            run("groupadd", &["--system", GROUP]).map_err(|failure| {
                failure.hint(format!("create the system group '{GROUP}', then try again"))
            })?;
            self.terminal.say(&format!("group '{GROUP}' created\n"));
        }
        if passwd::find(USER, Path::new(PASSWD)).is_none() {
            let options = ["--system", "--gid", GROUP, "--no-create-home", "--home-dir"];
            let rest = ["/var/lib/manor", "--shell", "/usr/sbin/nologin", USER];
            run("useradd", &[&options[..], &rest].concat()).map_err(|failure| {
                failure.hint(format!("create the system user '{USER}', then try again"))
            })?;
            self.terminal.say(&format!("user '{USER}' created\n"));
        }
        Ok(())
    }

    fn systemctl(&self, args: &[&str]) -> Result<(), Failure> {
        run("systemctl", args)
    }

    fn told(&self, path: &Path, what: &str) {
        self.terminal.say(&format!("{} {what}\n", path.display()));
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), Failure> {
    let command = format!("{program} {}", args.join(" "));
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|error| Failure::other(format!("cannot run {command}: {}", reason(&error))))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::other(why).while_doing(format!("{command} failed")))
}

/// Guests without a daemon could only be killed: they are to be ended first.
fn still_running(run_dir: &Path) -> Result<(), Failure> {
    let names = running(run_dir);
    if names.is_empty() {
        return Ok(());
    }
    let text = format!("domains are running: {}", names.join(", "));
    Err(Failure::other(text).hint("shut them down first ('manor shutdown' or 'manor destroy')"))
}

/// The daemon may be down, so its records are read instead of asking it.
fn running(run_dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(run_dir.join("domains")) else { return Vec::new() };
    let name_of = |directory: PathBuf| {
        let text = std::fs::read(directory.join("record.json")).ok()?;
        let record: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let pid = record["process"]["pid"].as_u64()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        line.starts_with(b"manor guest=").then(|| record["name"].as_str().map(str::to_owned))?
    };
    let mut names: Vec<_> = entries.flatten().filter_map(|entry| name_of(entry.path())).collect();
    names.sort();
    names
}

fn has_definitions(state_dir: &Path) -> bool {
    let entries = |name: &str| {
        let entries = std::fs::read_dir(state_dir.join(name)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    // The network that every host begins with is nobody's work until it is changed.
    let untouched = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let first = text.lines().next().unwrap_or_default();
        first.contains(r#""name":"default","generation":1,"autostart":false"#)
    };
    let mut others = management::STORED.iter().filter(|name| **name != "networks");
    others.any(|name| !entries(name).is_empty()) || !entries("networks").iter().all(untouched)
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::other(format!("cannot {what} {}: {}", path.display(), reason(error)));
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        failure.hint("setup changes the system: run it as root")
    } else {
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rig {
        root: tempfile::TempDir,
        terminal: Terminal,
    }

    impl Rig {
        fn new() -> Rig {
            Rig {
                root: tempfile::tempdir().unwrap(),
                terminal: Terminal::new(true, false, true, false),
            }
        }

        fn setup(&self, remove: bool, purge: bool) -> Result<(), Failure> {
            let args = Setup {
                remove,
                purge,
                root: self.root.path().to_owned(),
                binary: Some("/usr/bin/manor".into()),
                no_start: false,
            };
            setup(&args, &self.terminal)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn is_bare(&self) -> bool {
            let mut names: Vec<_> = walk(self.root.path());
            names.retain(|name| name.is_file() || !name.starts_with(self.path("etc")));
            // Directories that every system has.
            let common = ["var", "var/lib", "var/log", "usr", "usr/local", "usr/local/bin"];
            names.iter().all(|name| common.iter().any(|known| *name == self.path(known)))
        }
    }

    fn walk(directory: &Path) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            if entry.path().is_dir() {
                all.append(&mut walk(&entry.path()));
            }
            all.push(entry.path());
        }
        all
    }

    #[test]
    fn an_image_gets_units_that_name_the_binary_and_loses_them_again() {
        let rig = Rig::new();
        rig.setup(false, false).unwrap();
        let unit = std::fs::read_to_string(rig.path("etc/systemd/system/manor.service")).unwrap();
        assert!(unit.contains("\nExecStart=/usr/bin/manor daemon\n"), "{unit}");
        assert!(!unit.contains('@'), "{unit}");
        rig.setup(true, false).unwrap();
        assert!(rig.is_bare(), "{:?}", walk(rig.root.path()));
        rig.setup(true, false).unwrap();
    }

    #[test]
    fn what_people_made_stays_until_they_say_so() {
        for directory in management::STORED {
            let rig = Rig::new();
            rig.setup(false, false).unwrap();
            let config = rig.path(CONFIG);
            let definition = rig.path("var/lib/manor").join(directory).join("u.xml");
            std::fs::write(&config, "[log]\nlevel = \"debug\"\n").unwrap();
            std::fs::create_dir_all(definition.parent().unwrap()).unwrap();
            std::fs::write(&definition, "<domain/>").unwrap();
            rig.setup(false, false).unwrap();
            rig.setup(true, false).unwrap();
            assert!(config.exists() && definition.exists());
            rig.setup(true, true).unwrap();
            assert!(rig.is_bare(), "{:?}", walk(rig.root.path()));
        }
    }

    #[test]
    fn records_of_processes_that_are_gone_or_others_keep_nobody() {
        let rig = Rig::new();
        for (name, pid) in [("gone", u32::MAX), ("other", std::process::id())] {
            let directory = rig.path("domains").join(name);
            std::fs::create_dir_all(&directory).unwrap();
            let record = format!(r#"{{"name":"{name}","process":{{"pid":{pid},"start_time":1}}}}"#);
            std::fs::write(directory.join("record.json"), record).unwrap();
        }
        assert_eq!(running(rig.root.path()), Vec::<String>::new());
    }
}
