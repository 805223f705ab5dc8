//! [`Queue`]: an agent is asked one thing after the other, and only so many wait for their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
}

/// Whoever has it may ask the agent.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Default for Queue {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), waiting: Arc::default() }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Queue {
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
