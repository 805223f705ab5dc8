//! What others do to the rules of networks is found out and undone: a flushed ruleset would leave
//! guests without a way out, or open to everyone. What their own rules drop is told.

use std::sync::{Arc, Weak};
use std::time::Duration;

use broker::RulesWatch;

use super::state::Shared;
use crate::events::EventKind;

/// A reload of a firewall is many changes.
const SETTLED: Duration = Duration::from_millis(200);
/// Where rules do not stay as they were put in force, the next try waits longer, up to this.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn watch(shared: &Arc<Shared>) {
    let watch = match shared.broker.watch_rules() {
        Ok(watch) => watch,
        Err(error) => {
            tracing::debug!(%error, "changes of the host's packet filter are not seen");
            return;
        }
    };
    let shared = Arc::downgrade(shared);
    let thread = std::thread::Builder::new().name("rules".to_owned());
    if let Err(error) = thread.spawn(move || follow(&watch, &shared)) {
        tracing::error!(%error, "changes of the host's packet filter are not seen");
    }
}

fn follow(watch: &RulesWatch, shared: &Weak<Shared>) {
    let mut pause = SETTLED;
    let mut own = false;
    loop {
        let Some(shared) = shared.upgrade() else { return };
        shared.foreign.look(&shared.firewall.networks());
        if own {
            pause = repair(&shared, pause);
        }
        drop(shared);
        own = match watch.changed(pause) {
            Ok(own) => own,
            Err(error) => {
                tracing::error!(%error, "changes of the host's packet filter are not seen any more");
                return;
            }
        };
    }
}

/// How long to wait before the next try.
fn repair(shared: &Shared, pause: Duration) -> Duration {
    let longer = pause.saturating_mul(2).min(PATIENCE);
    match shared.firewall.repair() {
        // What we put in force ourselves is a change as well.
        Ok(false) => SETTLED,
        Ok(true) => {
            tracing::warn!(
                "somebody changed the rules of networks (nft list table inet manor); they are restored"
            );
            shared.journal.publish(None, EventKind::RulesRestored, None);
            longer
        }
        Err(error) => {
            tracing::error!(error = %error.chain(), "the rules of networks are not in force");
            longer
        }
    }
}
