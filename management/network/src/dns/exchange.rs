//! A question and its reply without a socket: for the fuzz target.

use std::net::SocketAddr;

use super::answer::{Transport, relayed};
use super::query::Query;
use super::service::{Step, first_step};
use crate::state::Shared;

/// What `client` hears, where `upstream` is what comes back if somebody else has to be asked.
pub(crate) fn reply(
    question: &[u8],
    upstream: &[u8],
    client: SocketAddr,
    over_tcp: bool,
    shared: &Shared,
) -> Option<Vec<u8>> {
    let transport = if over_tcp { Transport::Tcp } else { Transport::Udp };
    match first_step(question, client, transport, shared) {
        Step::Nothing => None,
        Step::Reply(reply) => Some(reply),
        Step::Forward => {
            let query = Query::parse(question).ok()?;
            let is_answer = query.is_answered_by(query.id, upstream);
            is_answer.then(|| relayed(&query, upstream.to_vec(), transport))
        }
    }
}
