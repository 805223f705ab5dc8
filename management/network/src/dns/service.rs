//! What happens to a message, whichever way it came.

use std::net::SocketAddr;

use super::answer::{self, Transport};
use super::gate::Gate;
use super::query::{Query, Rcode};
use super::resolve::{Verdict, resolve};
use crate::state::{Shared, now};

#[derive(Debug)]
pub(super) enum Step {
    Nothing,
    Reply(Vec<u8>),
    Forward,
}

/// What to do with a message, as far as it can be told at once.
pub(super) fn first_step(
    bytes: &[u8],
    client: SocketAddr,
    transport: Transport,
    shared: &Shared,
) -> Step {
    let mut state = shared.lock();
    state.dns.queries += 1;
    // Silence for strangers: an answer to a forged address would be traffic of the forger's making.
    if !state.zone.serves(client.ip()) || client.port() == 0 {
        state.dns.refused += 1;
        return Step::Nothing;
    }
    let query = match Query::parse(bytes) {
        Ok(query) => query,
        Err(bad) => {
            state.dns.refused += 1;
            return answer::bad(bad).map_or(Step::Nothing, Step::Reply);
        }
    };
    if query.edns.is_some_and(|edns| edns.version != 0) {
        state.dns.refused += 1;
        return Step::Reply(answer::empty(&query, Rcode::BadVersion));
    }
    let verdict = resolve(&query, &state.zone, state.leases(), now());
    let (counter, step) = match verdict {
        Verdict::Answer(records) => {
            (&mut state.dns.answered, Step::Reply(answer::full(&query, &records, transport)))
        }
        Verdict::NoSuchName => {
            (&mut state.dns.answered, Step::Reply(answer::empty(&query, Rcode::NxDomain)))
        }
        Verdict::Refuse => {
            (&mut state.dns.refused, Step::Reply(answer::empty(&query, Rcode::Refused)))
        }
        Verdict::Forward => (&mut state.dns.forwarded, Step::Forward),
    };
    *counter += 1;
    step
}

/// Ask an upstream what the client asks us.
pub(super) async fn forward(
    bytes: &[u8],
    client: SocketAddr,
    transport: Transport,
    shared: &Shared,
    waiting: &Gate,
) -> Option<Vec<u8>> {
    let query = Query::parse(bytes).ok()?;
    let reply = match waiting.enter(client.ip()) {
        Some(_place) => {
            let (upstreams, servers) = {
                let state = shared.lock();
                (state.upstreams.clone(), state.zone.upstreams_for(&query.name))
            };
            upstreams.ask(&query, servers, transport).await
        }
        None => None,
    };
    Some(match reply {
        Some(reply) => answer::relayed(&query, reply, transport),
        None => {
            shared.lock().dns.failed += 1;
            answer::empty(&query, Rcode::ServFail)
        }
    })
}
