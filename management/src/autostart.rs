//! What starts with the host: once for each boot, in its order, whatever becomes of the daemon.
//!
//! The run directory does not outlast the host. A marker there says how far this boot has come:
//! ```text
//! BOOT-ID              all of it
//! BOOT-ID -            pools and networks were begun
//! BOOT-ID 20           and domains up to order 20
//! ```
//! It is written before what it tells of, so that nothing is started twice: a guest that powered off
//! meant it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use uuid::Uuid;

use crate::domain::Turn;
use crate::domain::actor::blocking;
use crate::domain::handle::{Act, Handle, Start};
use crate::manager::Context;
use crate::saved::Saved;

/// In the run directory.
const MARKER: &str = "autostarted";
/// Starts at once: each reads images and maps memory.
const AT_ONCE: usize = 8;

/// How far this boot of the host has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The host was booted since a daemon looked last.
    Nothing,
    /// Pools and networks were begun, and domains up to this order.
    Begun(Option<u32>),
    All,
}

impl Progress {
    pub(crate) fn read(run_dir: &Path, boot_id: Uuid) -> Self {
        let text = std::fs::read_to_string(run_dir.join(MARKER)).unwrap_or_default();
        let mut words = text.split_whitespace();
        if words.next() != Some(&boot_id.to_string()) {
            return Self::Nothing;
        }
        match words.next() {
            None => Self::All,
            Some("-") => Self::Begun(None),
            // What cannot be read was begun by somebody.
            Some(order) => order.parse().map_or(Self::All, |order| Self::Begun(Some(order))),
        }
    }

    fn write(self, run_dir: &Path, boot_id: Uuid) -> std::io::Result<()> {
        let text = match self {
            Self::Begun(None) => format!("{boot_id} -\n"),
            Self::Begun(Some(order)) => format!("{boot_id} {order}\n"),
            Self::Nothing | Self::All => format!("{boot_id}\n"),
        };
        let (marker, next) = (run_dir.join(MARKER), run_dir.join(format!("{MARKER}.new")));
        std::fs::write(&next, text)?;
        std::fs::rename(&next, &marker)
    }
}

/// Start what is marked, from where an earlier daemon of this boot has come to.
pub(crate) async fn run(cx: &Context, progress: Progress) {
    let node = &cx.node;
    let write = |progress: Progress| {
        let written = progress.write(&node.config.run_dir, node.boot_id);
        written.inspect_err(|error| {
            let marker = node.config.run_dir.join(MARKER);
            tracing::error!(%error, marker = %marker.display(), "domains are not started");
        })
    };
    let begun = match progress {
        Progress::All => return,
        Progress::Begun(order) => order,
        Progress::Nothing => None,
    };
    if progress == Progress::Nothing {
        if write(Progress::Begun(None)).is_err() {
            return;
        }
        node.pools.autostart().await;
        // Before the domains that are in them.
        node.networks.autostart().await;
    }
    let mut waves =
        waves(cx).await.into_iter().filter(|(order, _)| Some(*order) > begun).peekable();
    while let Some((order, wave)) = waves.next() {
        if write(Progress::Begun(Some(order))).is_err() {
            return;
        }
        let delay = start_wave(cx, wave).await;
        if waves.peek().is_some() && !delay.is_zero() {
            tracing::info!(order, seconds = delay.as_secs(), "the next order waits");
            tokio::time::sleep(delay).await;
        }
    }
    let _ = write(Progress::All);
}

type Waves = BTreeMap<u32, Vec<(Turn, Handle)>>;

/// Domains that are marked, and those that were saved when the host went down.
async fn waves(cx: &Context) -> Waves {
    if !cx.node.config.domains.autostart {
        return Waves::new();
    }
    let node = cx.node.clone();
    // Descriptions of saved guests are read for it.
    let found = blocking(move || {
        let begins = |handle: Handle| {
            let view = handle.view();
            let stored = &view.definition.as_ref().filter(|_| view.live.is_none())?.stored;
            let saved = || {
                let path = node.managed_save(handle.uuid);
                view.managed_save && Saved::goes_on_with_host(&*node.broker, &path)
            };
            (stored.autostart || saved()).then_some((stored.turn, handle))
        };
        Ok(Turn::waves(node.all().into_iter().filter_map(begins)))
    });
    found.await.unwrap_or_else(|error| {
        tracing::error!(error = %error.chain(), "domains are not started");
        Waves::new()
    })
}

/// Start those of one order together: one that fails holds nobody up. Returns how long the next order
/// waits for those that did start.
async fn start_wave(cx: &Context, wave: Vec<(Turn, Handle)>) -> Duration {
    let starts = wave.into_iter().map(|(turn, handle)| async move {
        let act = Act::Start { def: None, seed: None, how: Start::default(), from: None };
        let name = handle.view().name;
        match handle.act(act, cx.start_deadline()).await {
            Ok(()) => {
                tracing::info!(domain = name, order = turn.order, "started with the host");
                turn.delay
            }
            Err(error) => {
                tracing::error!(domain = name, error = %error.chain(), "not started");
                0
            }
        }
    });
    let delays: Vec<_> = stream::iter(starts).buffer_unordered(AT_ONCE).collect().await;
    Duration::from_secs(delays.into_iter().max().unwrap_or(0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_of_one_boot_and_what_cannot_be_read_is_not_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let (this, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(Progress::read(dir.path(), this), Progress::Nothing);
        for progress in [Progress::Begun(None), Progress::Begun(Some(20)), Progress::All] {
            progress.write(dir.path(), this).unwrap();
            assert_eq!(Progress::read(dir.path(), this), progress);
            assert_eq!(Progress::read(dir.path(), other), Progress::Nothing);
        }
        std::fs::write(dir.path().join(MARKER), format!("{this} many")).unwrap();
        assert_eq!(Progress::read(dir.path(), this), Progress::All);
    }
}
