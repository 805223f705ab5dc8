//! What fuzz targets do with the two front ends: clients that say anything, to a daemon that can do
//! nothing to the host.

use std::path::Path;
use std::time::Duration;

use management::torture::powerless_manager;
use management::{Access, Caller, Manager};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::{http, rpc};

/// Bytes under way in each direction.
const PIPE: usize = 64 << 10;
const EVENTS: &[u8] = b"text/event-stream";
const PAUSE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(60);
const MISTAKE: &[u8] = b"urn:manor:error:internal";

/// A daemon, and a runtime for what its clients do one after another.
pub struct Service {
    runtime: Runtime,
    manager: Manager,
    router: axum::Router,
}

impl Service {
    /// # Panics
    /// If the directory cannot be written.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime of one thread");
        let manager = runtime.block_on(powerless_manager(directory));
        let router = http::router(manager.clone());
        Self { runtime, manager, router }
    }

    /// A connection over which this comes, from one who may do all.
    ///
    /// # Panics
    /// If the answer is that it was a mistake of the daemon's.
    pub fn http(&self, said: &[u8]) {
        let caller = Caller::new("torture", Access::Admin);
        let (stream, served) = duplex(PIPE);
        let answer = self.runtime.block_on(async {
            let (_stop, stopped) = watch::channel(false);
            let name = caller.name.clone();
            let serving =
                http::server::connection(served, (), name, caller, self.router.clone(), stopped);
            let (answer, ()) = tokio::join!(converse(stream, said), serving);
            answer
        });
        let is_mistaken = answer.windows(MISTAKE.len()).any(|part| part == MISTAKE);
        assert!(!is_mistaken, "{}", answer.escape_ascii());
    }

    /// A connection of libvirt's protocol that is open, and calls over it: of each two bytes for the
    /// procedure, one for its kind and one for the length of the arguments, arguments.
    pub fn libvirt(&self, calls: &[u8]) {
        let (said, asked) = rpc::calls(calls);
        let (stream, served) = duplex(PIPE);
        self.runtime.block_on(async {
            let (_stop, stopped) = watch::channel(false);
            let caller = Caller::new("torture", Access::Admin);
            let serving = rpc::serve_one(served, self.manager.clone(), caller, stopped);
            tokio::join!(rpc::hear_out(stream, &said, asked), serving)
        });
    }
}

/// Say it, and hear all that comes back.
async fn converse(stream: DuplexStream, said: &[u8]) -> Vec<u8> {
    let (mut from, mut to) = tokio::io::split(stream);
    let say = async {
        // The other side may have enough of it before its end.
        let _ = to.write_all(said).await;
        let _ = to.shutdown().await;
    };
    let hear = async {
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            // Events have no end; all else has.
            let is_endless = answer.windows(EVENTS.len()).any(|part| part == EVENTS);
            let patience = if is_endless { PAUSE } else { PATIENCE };
            match tokio::time::timeout(patience, from.read(&mut buffer)).await {
                Ok(Ok(count @ 1..)) => answer.extend_from_slice(&buffer[..count]),
                Ok(_) => return answer,
                Err(_) if is_endless => return answer,
                Err(_) => unreachable!("no end after {}", answer.escape_ascii()),
            }
        }
    };
    let ((), answer) = tokio::join!(say, hear);
    answer
}

#[cfg(test)]
mod tests {
    use manor_tests::seeds::replay;

    use super::*;

    #[test]
    fn requests_may_be_anything() {
        let directory = tempfile::tempdir().unwrap();
        let service = Service::new(directory.path());
        replay("http", 60, |said| service.http(said));
    }

    #[test]
    fn calls_may_be_anything() {
        let directory = tempfile::tempdir().unwrap();
        let service = Service::new(directory.path());
        replay("libvirt_calls", 60, |calls| service.libvirt(calls));
    }

    #[test]
    fn packets_may_be_anything() {
        let runtime = Builder::new_current_thread().build().unwrap();
        replay("libvirt_packets", 400, |packets| runtime.block_on(rpc::torture(packets)));
    }
}
