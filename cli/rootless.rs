//! `manor daemon --user`: one user's own daemon, whose places are where that user keeps such things.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use management::config::Config;
use rustix::process::geteuid;

use crate::config::{self, DEFAULT_PATH};
use crate::failure::{Failure, reason};

/// Where things of a user are (the XDG base directory specification).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Places {
    config: PathBuf,
    state: PathBuf,
    run: PathBuf,
}

impl Places {
    /// From the environment by `variable`.
    fn of(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, Failure> {
        let named = |name: &str| variable(name).filter(|path| path.is_absolute());
        let home = named("HOME");
        let below_home = |name: &str, rest: &str| {
            named(name)
                .or_else(|| home.as_ref().map(|home| home.join(rest)))
                .map(|path| path.join("manor"))
                .ok_or_else(|| {
                    let text = format!("neither {name} nor HOME says where files are to be");
                    Failure::other(text).hint("set HOME to your home directory")
                })
        };
        let run = named("XDG_RUNTIME_DIR").map(|path| path.join("manor")).ok_or_else(|| {
            Failure::other("XDG_RUNTIME_DIR is not set, so there is no place for sockets").hint(
                "log in as this user ('loginctl enable-linger' keeps the directory without a login), or set it \
                 to a directory that is this user's alone",
            )
        })?;
        Ok(Self {
            config: below_home("XDG_CONFIG_HOME", ".config")?,
            state: below_home("XDG_STATE_HOME", ".local/state")?,
            run,
        })
    }

    /// What a configuration does not say otherwise.
    fn settle(&self, config: &mut Config) {
        let usual = Config::default();
        let place = |path: &mut PathBuf, usual: &Path, own: PathBuf| {
            if path == usual {
                *path = own;
            }
        };
        place(&mut config.state_dir, &usual.state_dir, self.state.clone());
        place(&mut config.run_dir, &usual.run_dir, self.run.clone());
        place(&mut config.log_dir, &usual.log_dir, self.state.join("log"));
        let api = &mut config.api;
        place(&mut api.socket, &usual.api.socket, self.run.join("api.sock"));
        let read_only = self.run.join("api-ro.sock");
        place(&mut api.read_only_socket, &usual.api.read_only_socket, read_only);
        // Nobody else comes in.
        api.socket_group.clear();
        for mode in [&mut api.socket_mode, &mut api.read_only_socket_mode] {
            "0600".clone_into(mode);
        }
        config.user.clear();
    }
}

/// The configuration of the user who runs this; `file` where it is not the system's.
pub(crate) fn configuration(file: &Path) -> Result<Config, Failure> {
    if geteuid().is_root() {
        return Err(Failure::usage("--user is for other users than root".to_owned())
            .hint("root's daemon is 'manor daemon', for all users of the host"));
    }
    let places = Places::of(|name| std::env::var_os(name).map(PathBuf::from))?;
    let own = places.config.join("manor.toml");
    let mut config = match file {
        // That of root's daemon is not for this one.
        file if file == Path::new(DEFAULT_PATH) && !own.exists() => Config::default(),
        file if file == Path::new(DEFAULT_PATH) => config::load(&own)?,
        file => config::load(file)?,
    };
    places.settle(&mut config);
    if !config.run_dir.parent().is_some_and(Path::is_dir) {
        let path = config.run_dir.display();
        let failure = Failure::other(format!("there is no directory for {path}"));
        return Err(failure.hint("XDG_RUNTIME_DIR names it: log in as this user, or make it"));
    }
    if config.run_dir == places.run {
        is_private(places.run.parent().unwrap_or(&places.run), geteuid().as_raw())?;
    }
    Ok(config)
}

/// Who could put a directory or a socket there could be taken for the daemon.
fn is_private(directory: &Path, user: u32) -> Result<(), Failure> {
    let name = directory.display();
    let found = std::fs::metadata(directory)
        .map_err(|error| Failure::other(format!("cannot look at {name}: {}", reason(&error))))?;
    if found.uid() == user && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let mode = found.mode() & 0o7777;
    let text = format!(
        "others than user {user} may write to {name} (of user {}, mode {mode:04o}), so it is no place for sockets",
        found.uid()
    );
    Err(Failure::other(text).hint(
        "XDG_RUNTIME_DIR names it: log in as this user, or name a directory of this user's with mode 0700",
    ))
}

/// What stands in the way of guests here is said at once, and not when the first is started.
pub(crate) fn warn() {
    let open = std::fs::File::options().read(true).write(true).open("/dev/kvm");
    if let Err(error) = open {
        tracing::warn!(
            error = reason(&error),
            "this user may not open /dev/kvm, so no guest will start: join the group that it belongs to \
             (usermod --append --groups kvm USER) and log in again; 'manor host-check' says more"
        );
    }
}

/// The socket of this user's daemon, if there is one.
pub(crate) fn socket() -> Option<PathBuf> {
    let user = geteuid();
    if user.is_root() {
        return None;
    }
    let run = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)?;
    let is_own = |socket: &PathBuf| socket.metadata().is_ok_and(|it| it.uid() == user.as_raw());
    Some(run.join("manor/api.sock")).filter(is_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> Result<Places, Failure> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Places::of(|name| find(name).map(|(_, value)| value.into()))
    }

    #[test]
    fn a_users_places_are_those_of_xdg() {
        let usual = places(&[("HOME", "/home/a"), ("XDG_RUNTIME_DIR", "/run/user/7")]).unwrap();
        let mut config = Config::default();
        config.log.level = "debug".to_owned();
        config.api.socket = "/tmp/mine.sock".into();
        usual.settle(&mut config);
        assert_eq!(config.state_dir, Path::new("/home/a/.local/state/manor"));
        assert_eq!(config.log_dir, Path::new("/home/a/.local/state/manor/log"));
        assert_eq!(config.run_dir, Path::new("/run/user/7/manor"));
        assert_eq!(config.api.socket, Path::new("/tmp/mine.sock"), "the file says so");
        assert_eq!(config.api.read_only_socket, Path::new("/run/user/7/manor/api-ro.sock"));
        assert_eq!(usual.config, Path::new("/home/a/.config/manor"));
        assert_eq!((config.api.socket_mode.as_str(), config.user.as_str()), ("0600", ""));
        let moved = places(&[
            ("HOME", "/home/a"),
            ("XDG_RUNTIME_DIR", "/r"),
            ("XDG_STATE_HOME", "/s"),
            ("XDG_CONFIG_HOME", "relative"),
        ]);
        let moved = moved.unwrap();
        assert_eq!(moved.state, Path::new("/s/manor"));
        assert_eq!(moved.config, Path::new("/home/a/.config/manor"), "it must be absolute");
    }

    #[test]
    fn sockets_are_put_where_nobody_else_may_put_any() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let own = geteuid().as_raw();
        let check = |mode, user| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(dir.path(), mode).unwrap();
            is_private(dir.path(), user).map_err(|failure| failure.lines().join("\n"))
        };
        check(0o700, own).unwrap();
        check(0o755, own).unwrap();
        for (mode, user) in [(0o1777, own), (0o770, own), (0o700, own + 1)] {
            let said = check(mode, user).unwrap_err();
            assert!(said.contains(&format!("mode {mode:04o}")), "{said}");
        }
    }

    #[test]
    fn what_is_lacking_is_named() {
        let said = |variables: &[(&str, &str)]| places(variables).unwrap_err().lines().join("\n");
        assert!(said(&[("HOME", "/h")]).contains("XDG_RUNTIME_DIR is not set"));
        assert!(said(&[("XDG_RUNTIME_DIR", "/r")]).contains("HOME"));
    }
}
