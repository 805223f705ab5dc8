//! [`Queue`]: an agent is asked one thing after the other, and only so many wait for their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Code, Error};

/// More than this wait for an agent that does not get on.
const MOST: usize = 32;
/// Longer than most commands take, shorter than a client waits.
const TURN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(crate) struct Queue {
    turn: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    patience: Arc<AtomicI32>,
}

/// How long an agent may take to answer, in place of what each command has
/// (virDomainAgentSetResponseTimeout).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AgentTimeout {
    /// What each command has.
    #[default]
    Usual,
    /// As long as it takes; an hour, that is, so that no agent keeps others out for good.
    Forever,
    /// 0: one that does not answer at once does not answer.
    Seconds(u16),
}

const FOREVER: Duration = Duration::from_secs(3600);

impl AgentTimeout {
    /// libvirt's number of it.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::Forever => -2,
            Self::Usual => -1,
            Self::Seconds(seconds) => seconds.into(),
        }
    }

    /// None: it is no number of any.
    #[must_use]
    pub fn of(number: i32) -> Option<Self> {
        match number {
            -2 => Some(Self::Forever),
            -1 => Some(Self::Usual),
            other => u16::try_from(other).ok().map(Self::Seconds),
        }
    }

    /// In place of `usual`.
    pub(super) fn over(self, usual: Duration) -> Duration {
        match self {
            Self::Usual => usual,
            Self::Forever => FOREVER,
            Self::Seconds(seconds) => Duration::from_secs(seconds.into()),
        }
    }
}

/// Whoever has it may ask the agent.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Default for Queue {
    fn default() -> Self {
        let patience = Arc::new(AtomicI32::new(AgentTimeout::Usual.number()));
        Self { turn: Arc::new(Semaphore::new(1)), waiting: Arc::default(), patience }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Queue {
    pub(crate) fn timeout(&self) -> AgentTimeout {
        AgentTimeout::of(self.patience.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// From the next question on.
    pub(crate) fn set_timeout(&self, timeout: AgentTimeout) {
        self.patience.store(timeout.number(), Ordering::Relaxed);
    }

    pub(super) async fn turn(&self, name: &str) -> Result<Turn, Error> {
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        if before < MOST
            && let Ok(Ok(permit)) =
                tokio::time::timeout(TURN, self.turn.clone().acquire_owned()).await
        {
            return Ok(Turn { _permit: permit });
        }
        let text = format!(
            "domain {name:?}: its guest agent is busy with other commands; try again later"
        );
        Err(Error::new(Code::Busy, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_comes_back_from_its_number_and_takes_the_place_of_the_usual_one() {
        let usual = Duration::from_secs(10);
        for (timeout, seconds) in [
            (AgentTimeout::Usual, 10),
            (AgentTimeout::Forever, 3600),
            (AgentTimeout::Seconds(0), 0),
            (AgentTimeout::Seconds(99), 99),
        ] {
            assert_eq!(AgentTimeout::of(timeout.number()), Some(timeout));
            assert_eq!(timeout.over(usual), Duration::from_secs(seconds));
        }
        assert_eq!([-3, 1 << 16].map(AgentTimeout::of), [None, None]);
    }
}
