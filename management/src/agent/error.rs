//! [`AgentError`]: how a talk with a guest's agent fails.

use std::io;
use std::time::Duration;

use crate::control::VmmError;
use crate::domain::clean;
use crate::error::{Code, Error};

#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error("the channel of its guest agent cannot be reached")]
    Channel(#[source] VmmError),
    #[error("its guest agent does not answer (within {0:?}); it may be stuck or stopped")]
    Silent(Duration),
    #[error("its guest agent sends without end and does not answer; restart it in the guest")]
    Babble,
    #[error("its guest agent did not answer {command} within {within:?}; it may still do it")]
    Unanswered { command: String, within: Duration },
    #[error("the channel of its guest agent was closed")]
    Closed,
    #[error("its guest agent answered {command} with more than {longest} bytes")]
    TooLong { command: String, longest: usize },
    #[error("its guest agent answered {command} with something that is no answer: {what}")]
    Garbage { command: String, what: String },
    #[error("its guest agent does not know {command}; a newer one may")]
    Unknown { command: String },
    #[error(
        "its guest agent has {command} switched off ({why}); see block-rpcs and allow-rpcs in the \
         agent's configuration in the guest"
    )]
    SwitchedOff { command: String, why: String },
    #[error("its guest agent refused {command}: {why}")]
    Refused { command: String, why: String },
    #[error("the channel of its guest agent broke")]
    Io(#[source] io::Error),
}

impl AgentError {
    /// From an answer that is an error.
    pub(super) fn refused(command: &str, class: &str, why: &str) -> Self {
        let (command, why) = (command.to_owned(), clean(why));
        // Agents before 7.2 call a command that is switched off unknown, too.
        if why.contains("disabled") {
            return Self::SwitchedOff { command, why };
        }
        if class == "CommandNotFound" {
            return Self::Unknown { command };
        }
        Self::Refused { command, why }
    }

    /// The agent has surely not done what it was asked for.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Channel(_)
            | Self::Silent(_)
            | Self::Babble
            | Self::Unknown { .. }
            | Self::SwitchedOff { .. }
            | Self::Refused { .. } => true,
            Self::Unanswered { .. }
            | Self::Closed
            | Self::TooLong { .. }
            | Self::Garbage { .. }
            | Self::Io(_) => false,
        }
    }

    /// For those who asked about the domain `name`.
    pub(crate) fn of(self, name: &str) -> Error {
        let code = match &self {
            Self::Channel(_) => Code::VmmUnreachable,
            Self::Silent(_) | Self::Unanswered { .. } => Code::Timeout,
            Self::Unknown { .. } | Self::SwitchedOff { .. } => Code::Unsupported,
            Self::Closed
            | Self::Babble
            | Self::TooLong { .. }
            | Self::Garbage { .. }
            | Self::Refused { .. }
            | Self::Io(_) => Code::InvalidState,
        };
        let error = Error::new(code, format!("domain {name:?}: {self}"));
        match self {
            Self::Channel(source) => error.with_source(source),
            Self::Io(source) => error.with_source(source),
            _ => error,
        }
    }
}
