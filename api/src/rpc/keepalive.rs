//! Pings: a client that said it answers them, and does not, is gone.

use std::time::Duration;

use tokio::time::Instant;

use super::protocol::packet::{self, Header, KEEPALIVE};
use super::session::Session;

/// Of silence, before it is asked whether it is there; libvirt's own.
const INTERVAL: Duration = Duration::from_secs(5);
/// So many times.
const COUNT: u32 = 5;

pub(super) const PING: i32 = 1;
pub(super) const PONG: i32 = 2;

/// Returns when the client is not there any more.
pub(super) async fn watch(session: &Session) {
    session.may_be_pinged().await;
    let (mut unanswered, mut asked) = (0, Instant::now());
    loop {
        let heard = session.heard();
        if heard >= asked {
            unanswered = 0;
        }
        let next = heard.max(asked) + INTERVAL;
        if Instant::now() < next {
            tokio::time::sleep_until(next).await;
            continue;
        }
        if unanswered >= COUNT {
            return;
        }
        (unanswered, asked) = (unanswered + 1, Instant::now());
        // A full queue is no answer either: its client is found out by what it does not take.
        let _ = session.send_now(packet::encode(Header::message(KEEPALIVE, PING), &()));
    }
}
