//! How many files the daemon may have open: enough for every connection that its sockets admit, and for its own
//! work beside them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the daemon's sockets admit at most, several times over; as `manor.service` says.
const WANTED: u64 = 65_536;

/// Raise the limit as far as is wanted and allowed. Where little is, the sockets admit fewer.
pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let most = maximum.map_or(WANTED, |maximum| maximum.min(WANTED));
    if current.is_some_and(|current| current < most)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    if most < WANTED {
        tracing::warn!(
            "this daemon may have {most} files open, and wants {WANTED}: fewer clients are served at a time; raise \
             the hard limit (LimitNOFILE= of its unit, ulimit -Hn)"
        );
    }
}
