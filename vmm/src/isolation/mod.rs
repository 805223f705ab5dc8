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

/// What the process needs of the host while it builds its machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Needs {
    /// Descriptors that came with it.
    pub files: usize,
    /// Bytes of the guest's.
    pub memory: u64,
    /// That the guest has or may get.
    pub vcpus: u16,
    /// The guest's memory is to be locked into the host's.
    pub locked_memory: bool,
}

/// Give it all up, for good; but what it takes to lock memory, where that is needed, goes with
/// [the memory](memory_is_there).
///
/// # Errors
/// The first layer that the host refuses, where all of them are required.
pub fn isolate(wanted: Isolation, needs: Needs) -> Result<Layers, IsolationError> {
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
    let limits = limits::set(needs, privileged);
    let may_lock = limits.as_ref().is_ok_and(|limits| limits.locks);
    add("limits", limits.map(|limits| limits.words))?;
    let own = sys::namespaces(privileged);
    let separate = own.is_ok();
    add("namespaces", own.map(|()| namespaces(privileged)))?;
    if separate {
        add("root", root::enter_empty().map(|()| "empty, read-only".to_owned()))?;
    }
    let user = wanted.user.filter(|_| privileged);
    let lock = privileged && needs.locked_memory && !may_lock;
    // Not before the user namespace is there: the limit of whoever makes one holds for its whole user.
    if user.is_some() || (separate && !privileged) {
        add("threads", limits::set_threads(needs.vcpus))?;
    }
    add("user", privileges::drop_all(user, lock))?;
    add("landlock", landlock::forbid_all())?;
    Ok(layers)
}

/// The guest's memory is there, locked or not. Called before there is a second thread.
pub(crate) fn memory_is_there(wanted: Isolation) -> io::Result<()> {
    if wanted.mode == IsolationMode::Off { Ok(()) } else { privileges::give_up() }
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
