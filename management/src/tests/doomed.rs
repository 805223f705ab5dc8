//! [`Doomed`]: a daemon of a test's own process, which dies at an act that it makes; [`Part`]: the tests that have
//! one play, and look at what it leaves.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
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

/// A daemon to be killed: the test that plays it, in a process of its own, where the environment names its role.
pub(super) struct Part {
    pub test: &'static str,
    pub role: &'static str,
}

impl Part {
    /// Have it play on a host, and die at the act of this number, or at such a word to the VMM: `before` or
    /// `after` it. Whether it survived.
    pub(super) fn survives(&self, host: &Host, moment: &str, count: usize) -> bool {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", self.test])
            .env(self.role, format!("{} {count} {moment}", host.dir.path().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        let survived = host.path("survived").exists();
        assert!(status.success() || !survived, "it survived {moment} {count}, and fails: {status}");
        survived
    }

    /// Have it die at every act, or every so many, each time on another host, until it survives; `check` sees
    /// each host as it was left.
    pub(super) fn dies_at_every_act(
        &self,
        every: usize,
        host: impl AsyncFn() -> Host,
        mut check: impl AsyncFnMut(&Host, &str),
    ) {
        // Before an act is after the one before it, but for what is stored in between.
        for (moment, first) in [("before", 0), ("after", every / 2)] {
            for act in (first..).step_by(every) {
                assert!(act < 60 * every, "the daemon makes ever more acts");
                let host = apart(host());
                let survived = self.survives(&host, moment, act);
                apart(check(&host, &format!("killed {moment} act {act}")));
                if survived {
                    break;
                }
            }
        }
    }
}

/// With whatever a daemon has running left where it is.
pub(super) fn apart<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}
