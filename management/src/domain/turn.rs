//! [`Turn`]: when a domain comes up and goes down with the host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error};

/// An hour between two orders is a mistake, and so is a day for a guest to shut down.
const LONGEST_DELAY: u32 = 3600;
const LONGEST_PATIENCE: u32 = 86_400;

/// Kept beside the mark of autostart. Of a domain that is not marked, only what is about the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Turn {
    /// Lower ones come up earlier and go down later; those of one order go together.
    pub order: u32,
    /// Seconds from its start to the turn of the next order.
    pub delay: u32,
    /// Seconds that the guest has to shut down before its power is cut; none: as usual.
    pub patience: Option<u32>,
    /// None: as whoever shuts the guests down does with all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_shutdown: Option<AtShutdown>,
}

/// What becomes of a guest when its host goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AtShutdown {
    /// It is asked to shut down.
    Shutdown,
    /// It is saved, and goes on when the host is back.
    Save,
}

/// What is to be different; none: it stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TurnChange {
    pub order: Option<u32>,
    pub delay: Option<u32>,
    pub patience: Option<u32>,
    pub at_shutdown: Option<AtShutdown>,
}

impl TurnChange {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let within = |value: Option<u32>, most: u32, what: &str| match value {
            Some(value) if value > most => {
                let text = format!("{what} of {value} s is too long: at most {most} s");
                Err(Error::new(Code::InvalidArgument, text))
            }
            _ => Ok(()),
        };
        within(self.delay, LONGEST_DELAY, "a delay")?;
        within(self.patience, LONGEST_PATIENCE, "a time to shut down")
    }
}

impl Turn {
    #[must_use]
    pub(crate) fn changed(self, change: TurnChange) -> Self {
        Self {
            order: change.order.unwrap_or(self.order),
            delay: change.delay.unwrap_or(self.delay),
            patience: change.patience.or(self.patience),
            at_shutdown: change.at_shutdown.or(self.at_shutdown),
        }
    }

    pub(crate) fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// Those of one order together, in the order in which they come up.
    pub(crate) fn waves<T>(
        all: impl IntoIterator<Item = (Self, T)>,
    ) -> BTreeMap<u32, Vec<(Self, T)>> {
        let mut waves: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (turn, item) in all {
            waves.entry(turn.order).or_default().push((turn, item));
        }
        waves
    }
}
