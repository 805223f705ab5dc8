//! What the process gives up before it looks at anything that a guest could have made, and before it
//! has a second thread: its view of the host's files, networks and processes, who it was, and what it
//! was allowed.
//!
//! ```text
//! started by the broker ─▶ limits ─▶ namespaces ─▶ empty root ─▶ another user ─▶ Landlock ─▶ build
//!  (own pid namespace)      rlimits    net, ipc …    read-only     no capability   no path, no port
//! ```
//! Everything a guest needs is open by then, so nothing is missed. Each layer holds by itself: seccomp
//! ([`crate::sandbox`]) comes on top, thread by thread, once the machine is built.

mod landlock;
mod limits;
mod privileges;
mod root;
mod sys;

use std::io;

use rustix::thread::{CapabilitySet, capabilities};
use vmm_protocol::config::{Isolation, IsolationMode};

#[derive(Debug, thiserror::Error)]
#[error("cannot isolate the process ({layer}); `isolation = \"possible\"` starts guests without")]
pub struct IsolationError {
    layer: &'static str,
    source: io::Error,
}

/// What holds, in words, layer by layer: as the handshake tells it.
pub type Layers = Vec<(String, String)>;

/// Give it all up, for good. `files`: how many descriptors came with the process.
///
/// # Errors
/// The first layer that the host refuses, where all of them are required.
pub fn isolate(wanted: Isolation, files: usize) -> Result<Layers, IsolationError> {
    let mut layers = Layers::new();
    if wanted.mode == IsolationMode::Off {
        layers.push(("isolation".into(), "off".into()));
        return Ok(layers);
    }
    let mut add = |layer: &'static str, done: io::Result<String>| match done {
        Ok(text) => {
            layers.push((layer.to_owned(), text));
            Ok(())
        }
        Err(source) if wanted.mode == IsolationMode::Required => {
            Err(IsolationError { layer, source })
        }
        Err(error) => {
            tracing::warn!(layer, %error, "the process runs without a layer of its isolation");
            layers.push((layer.to_owned(), format!("no: {error}")));
            Ok(())
        }
    };
    let privileged = is_privileged();
    add("limits", limits::set(files, privileged))?;
    let own = sys::namespaces(privileged);
    let separate = own.is_ok();
    add("namespaces", own.map(|()| namespaces(privileged)))?;
    if separate {
        add("root", root::enter_empty().map(|()| "empty, read-only".to_owned()))?;
    }
    add("user", privileges::drop_all(wanted.user.filter(|_| privileged)))?;
    add("landlock", landlock::forbid_all())?;
    Ok(layers)
}

fn is_privileged() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Those that [`sys::namespaces`] makes, and the broker's.
fn namespaces(privileged: bool) -> String {
    let mut names = vec!["mount", "net", "ipc", "uts"];
    if std::process::id() == 1 {
        names.push("pid");
    }
    if !privileged {
        names.push("user");
    }
    names.join(",")
}
