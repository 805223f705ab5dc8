//! `manor setup`: from this one file to a service. Everything it writes is in the binary; doing it
//! again changes nothing; `--remove` undoes it and leaves what people made.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Setup;
use crate::config;
use crate::daemon::group_id;
use crate::failure::{Failure, reason};
use crate::terminal::Terminal;

const GROUP: &str = "manor";
const UNITS: &[(&str, &str)] = &[
    ("manor.service", include_str!("../resources/systemd/manor.service")),
    ("manor.socket", include_str!("../resources/systemd/manor.socket")),
    ("manor-ro.socket", include_str!("../resources/systemd/manor-ro.socket")),
];
const UNIT_DIR: &str = "etc/systemd/system";
const SYSUSERS: &str = "etc/sysusers.d/manor.conf";
const SYSUSERS_TEXT: &str = include_str!("../resources/systemd/sysusers.conf");
const CONFIG: &str = "etc/manor/manor.toml";
/// With their modes: what lies in the state directory has modes of its own.
const DIRECTORIES: &[(&str, u32)] =
    &[("etc/manor", 0o755), ("var/lib/manor", 0o711), ("var/log/manor", 0o750)];

pub(crate) fn setup(args: &Setup, terminal: &Terminal) -> Result<(), Failure> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()
            .map_err(|error| Failure::other(format!("where is this binary? {error}")))?,
    };
    if binary.to_str().is_none_or(|path| path.contains(['\n', '"', '%', '\\'])) {
        return Err(Failure::other(format!("{binary:?} is no path for a unit file")));
    }
    let work = Work { root: &args.root, binary, terminal, live: args.root == Path::new("/") };
    if args.remove { work.remove() } else { work.install(!args.no_start) }
}

struct Work<'a> {
    root: &'a Path,
    binary: PathBuf,
    terminal: &'a Terminal,
    /// On the running system, and not on some image's root.
    live: bool,
}

impl Work<'_> {
    fn install(&self, start: bool) -> Result<(), Failure> {
        for (directory, mode) in DIRECTORIES {
            self.directory(&self.root.join(directory), *mode)?;
        }
        self.group()?;
        let config = self.root.join(CONFIG);
        if config.exists() {
            self.told(&config, "kept");
        } else {
            self.file(&config, config::TEMPLATE, 0o644)?;
        }
        let mut changed = false;
        for (name, text) in UNITS {
            let path = self.root.join(UNIT_DIR).join(name);
            changed |= self.file(&path, &self.unit(text), 0o644)?;
        }
        if !self.live || !start {
            return Ok(());
        }
        if !Path::new("/run/systemd/system").exists() {
            self.terminal.warn("systemd does not run here; start the daemon with 'manor daemon'");
            return Ok(());
        }
        if changed {
            self.systemctl(&["daemon-reload"])?;
        }
        self.systemctl(&["enable", "--now", "manor.socket", "manor-ro.socket", "manor.service"])?;
        self.terminal.say("the daemon runs; try 'manor list --all'\n");
        Ok(())
    }

    fn remove(&self) -> Result<(), Failure> {
        if self.live && Path::new("/run/systemd/system").exists() {
            let installed = self.root.join(UNIT_DIR).join("manor.service").exists();
            if installed {
                self.systemctl(&[
                    "disable",
                    "--now",
                    "manor.service",
                    "manor.socket",
                    "manor-ro.socket",
                ])?;
            }
        }
        for (name, _) in UNITS {
            self.gone(&self.root.join(UNIT_DIR).join(name))?;
        }
        self.gone(&self.root.join(SYSUSERS))?;
        let config = self.root.join(CONFIG);
        match std::fs::read_to_string(&config) {
            Ok(text) if text == config::TEMPLATE => self.gone(&config)?,
            Ok(_) => self.told(&config, "kept: it was changed"),
            Err(_) => {}
        }
        for (directory, _) in DIRECTORIES {
            let path = self.root.join(directory);
            // Only empty ones go.
            match std::fs::remove_dir(&path) {
                Ok(()) => self.told(&path, "removed"),
                Err(_) if path.exists() => self.told(&path, "kept: it is not empty"),
                Err(_) => {}
            }
        }
        if self.live && Path::new("/run/systemd/system").exists() {
            self.systemctl(&["daemon-reload"])?;
        }
        if self.live && group_id(GROUP, Path::new("/etc/group")).is_some() {
            // It may have members, who may own files.
            self.terminal.say(&format!("group '{GROUP}' kept; 'groupdel {GROUP}' removes it\n"));
        }
        Ok(())
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

    /// systemd-sysusers makes the group at the next boot of an image; on a running system it is
    /// made now.
    fn group(&self) -> Result<(), Failure> {
        self.file(&self.root.join(SYSUSERS), SYSUSERS_TEXT, 0o644)?;
        if !self.live || group_id(GROUP, Path::new("/etc/group")).is_some() {
            return Ok(());
        }
        let made = Command::new("groupadd").args(["--system", GROUP]).output();
        match made {
            Ok(output) if output.status.success() => {
                self.terminal.say(&format!("group '{GROUP}' created\n"));
                Ok(())
            }
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(Failure::other(format!("cannot create the group '{GROUP}': {why}")))
            }
            Err(error) => Err(Failure::other(format!("cannot run groupadd: {}", reason(&error)))
                .hint(format!("create the system group '{GROUP}', then try again"))),
        }
    }

    fn systemctl(&self, args: &[&str]) -> Result<(), Failure> {
        let command = format!("systemctl {}", args.join(" "));
        let output = Command::new("systemctl")
            .args(args)
            .output()
            .map_err(|error| Failure::other(format!("cannot run {command}: {}", reason(&error))))?;
        if output.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Failure::other(why).while_doing(format!("{command} failed")))
    }

    fn told(&self, path: &Path, what: &str) {
        self.terminal.say(&format!("{} {what}\n", path.display()));
    }
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::other(format!("cannot {what} {}: {}", path.display(), reason(error)));
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        failure.hint("setup changes the system: run it as root")
    } else {
        failure
    }
}
