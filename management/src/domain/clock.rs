//! The guest's clock, when the guest has set it.

use super::actor::Actor;
use crate::translate;

impl Actor {
    /// The guest's clock is `offset` seconds ahead of UTC now: a variable clock remembers, for the
    /// next time that this domain is started from what it runs by.
    pub(super) async fn take_clock(&mut self, offset: i64) {
        let now = jiff::Timestamp::now();
        self.change_live(|def| translate::clock::remember(def, offset, now)).await;
    }
}
