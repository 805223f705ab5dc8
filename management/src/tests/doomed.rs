//! [`Doomed`]: a daemon of a test's own process, which dies at an act that it makes.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use broker::{Broker, BrokerError, Granted, Request};
use rustix::process::{Signal, getpid, kill_process};

use super::rig::{Daemon, Host, TestBroker};

/// Kills its own process before or after an act of the broker.
#[derive(Debug)]
struct Doomed {
    inner: TestBroker,
    left: AtomicI64,
    after: bool,
}

impl Broker for Doomed {
    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
        let now = self.left.fetch_sub(1, Ordering::SeqCst) == 0;
        let die = || kill_process(getpid(), Signal::KILL).unwrap();
        if now && !self.after {
            die();
        }
        let result = self.inner.perform(request, files);
        if now && self.after {
            die();
        }
        result
    }
}

/// The daemon of the directory that `role` names first, which dies at the act of the number that comes
/// second: before it, or, if that comes third, `after`.
pub(super) async fn doomed(role: &str) -> (Host, Daemon, PathBuf) {
    let mut words = role.split(' ');
    let mut host = Host::new();
    let place = words.next().unwrap().to_owned();
    let left = words.next().unwrap().parse().unwrap();
    let after = words.next() == Some("after");
    let own = PathBuf::from(place);
    host.config.state_dir = own.join("state");
    host.config.run_dir = own.join("run");
    host.config.log_dir = own.join("log");
    let doomed = Doomed { inner: TestBroker::new(), left: AtomicI64::new(left), after };
    let daemon = host.daemon_with(Arc::new(doomed)).await;
    (host, daemon, own)
}
