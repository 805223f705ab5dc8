//! `virt-ssh-helper`: what libvirt's clients run on this host through ssh (`qemu+ssh://`). Its stdin
//! and stdout become a connection to the daemon's socket.
//!
//! ```text
//! virsh ─ ssh ─▶ sshd ─ virt-ssh-helper qemu:///system ─ libvirt-sock ─▶ daemon
//! ```

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::args::SshHelper;
use crate::config;
use crate::failure::{Exit, Failure, NOT_CONNECTED, reason};

const PIECE: usize = 64 << 10;
/// Where a daemon listens that was told so, and where others look.
const SOCKETS: &[&str] = &["/run/libvirt/libvirt-sock", "/run/manor/libvirt-sock"];
const READ_ONLY: &str = "-ro";

pub(crate) fn run(args: &SshHelper) -> Result<(), Failure> {
    let path = socket(args)?;
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Unreachable, format!("{}: {}", path.display(), reason(&error)))
            .while_doing(NOT_CONNECTED)
            .hint("the daemon listens there if [libvirt] in its configuration says so")
    };
    let socket = UnixStream::connect(&path).map_err(failed)?;
    let mut to_daemon = socket.try_clone().map_err(failed)?;
    // It ends with the process if the daemon closes first.
    std::thread::spawn(move || {
        copy(&mut std::io::stdin().lock(), &mut to_daemon);
        // The client has gone; what was answered goes out still.
        let _ = to_daemon.shutdown(Shutdown::Write);
    });
    copy(&mut &socket, &mut std::io::stdout().lock());
    Ok(())
}

/// Until either side ends. Nobody is left to tell of more than that.
fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// What the URI names, else the configuration, else where there is one.
fn socket(args: &SshHelper) -> Result<PathBuf, Failure> {
    let (name, query) = args.uri.split_once('?').unwrap_or((&args.uri, ""));
    if !matches!(name, "qemu:///system" | "qemu:///session" | "manor:///system") {
        let text = format!("{name:?} is not here; there is qemu:///system");
        return Err(Failure::new(Exit::Unreachable, text).while_doing(NOT_CONNECTED));
    }
    if let Some(path) = query.split('&').find_map(|part| part.strip_prefix("socket=")) {
        return Ok(path.into());
    }
    // Who may not read the configuration looks where a socket may be.
    let settings = config::load(&args.config).map(|config| config.libvirt).unwrap_or_default();
    let configured = if args.readonly { settings.read_only_socket } else { settings.socket };
    if !configured.as_os_str().is_empty() {
        return Ok(configured);
    }
    let suffix = if args.readonly { READ_ONLY } else { "" };
    let mut places = SOCKETS.iter().map(|place| PathBuf::from(format!("{place}{suffix}")));
    let there = places.clone().find(|place| Path::exists(place));
    there.or_else(|| places.next()).ok_or_else(|| Failure::other("there is no socket"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_one_that_is_named_else_the_configured_one() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("manor.toml");
        std::fs::write(&config, "[libvirt]\nsocket = \"/a\"\nread_only_socket = \"/b\"\n").unwrap();
        let socket = |uri: &str, readonly| {
            socket(&SshHelper { readonly, config: config.clone(), uri: uri.to_owned() })
        };
        assert_eq!(socket("qemu:///system", false).unwrap(), Path::new("/a"));
        assert_eq!(socket("qemu:///system", true).unwrap(), Path::new("/b"));
        let named = socket("qemu:///system?mode=legacy&socket=/c", false).unwrap();
        assert_eq!(named, Path::new("/c"));
        assert!(socket("xen:///system", false).is_err());
    }
}
