//! [`Session`]: one talk with an agent, over any stream.
//!
//! ```text
//! we:    0xFF {"execute":"guest-sync-delimited","arguments":{"id":N}}\n
//! agent: … late answers, halves of lines … 0xFF {"return":N}\n
//! we:    {"execute":"guest-get-osinfo"}\n
//! agent: {"return":{…}}\n
//! ```
//! The agent may have been asked before by somebody who did not wait for the answer, so nothing it
//! says counts before it has returned this session's number.

use std::future::Future;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::AgentError;
use super::queue::AgentTimeout;
use crate::domain::clean;

/// Begins an answer to `guest-sync-delimited`, and occurs in no JSON.
const SENTINEL: u8 = 0xFF;
/// For an agent to find its place: one that runs does it at once. As libvirt waits.
const SYNC: Duration = Duration::from_secs(5);
/// `{"return": N}`, whatever its spaces.
const LONGEST_SYNC: usize = 256;
/// Answers of most commands, and of those that carry files or the output of programs.
const SHORT: usize = 1 << 20;
pub(crate) const LONG: usize = 16 << 20;
/// For a question that the agent answers from what it knows.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a command that is answered only when it fails.
const GRACE: Duration = Duration::from_secs(2);

/// A command, and what its answer may cost.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    pub command: &'a str,
    pub arguments: Option<Value>,
    pub within: Duration,
    /// Bytes of the answer.
    pub longest: usize,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(command: &'a str) -> Self {
        Self { command, arguments: None, within: PATIENCE, longest: SHORT }
    }

    pub(crate) fn with(self, arguments: Value) -> Self {
        Self { arguments: Some(arguments), ..self }
    }

    pub(crate) fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    pub(crate) fn long(self) -> Self {
        Self { longest: LONG, ..self }
    }

    fn line(&self) -> Vec<u8> {
        let mut request = json!({ "execute": self.command });
        if let Some(arguments) = &self.arguments {
            request["arguments"] = arguments.clone();
        }
        let mut line = request.to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, rename = "return")]
    returned: Option<&'a RawValue>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    class: String,
    #[serde(default)]
    desc: String,
}

#[derive(Debug)]
pub(crate) struct Session<S> {
    stream: S,
    chunk: Box<[u8]>,
    /// What of the chunk is not looked at yet.
    unread: std::ops::Range<usize>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Have the agent find its place. One that is waited for as long as it takes is there or not all the same.
    pub(crate) async fn open(stream: S, timeout: AgentTimeout) -> Result<Self, AgentError> {
        let mut session = Self { stream, chunk: vec![0; 8 << 10].into(), unread: 0..0 };
        let id = uuid::Uuid::new_v4().as_u64_pair().0 >> 16;
        let within = timeout.over(SYNC);
        let within = if timeout == AgentTimeout::Forever { SYNC } else { within };
        let found = tokio::time::timeout(within, session.synchronise(id)).await;
        found.map_err(|_| AgentError::Silent(within))??;
        Ok(session)
    }

    async fn synchronise(&mut self, id: u64) -> Result<(), AgentError> {
        let ask = Ask::new("guest-sync-delimited").with(json!({ "id": id }));
        // Ends what somebody left half said; the agent's complaint about it is passed over too.
        let mut request = vec![SENTINEL];
        request.extend(ask.line());
        self.send(&request).await?;
        let mut answer: Option<Vec<u8>> = None;
        // The rest of one long answer to somebody else comes first at most.
        for _ in 0..LONG + SHORT {
            match (self.byte().await?, &mut answer) {
                (SENTINEL, _) => answer = Some(Vec::new()),
                (b'\n', Some(line)) => {
                    let returned = serde_json::from_slice::<Answer<'_>>(line).ok();
                    let returned = returned.and_then(|answer| answer.returned);
                    if returned.is_some_and(|number| number.get() == id.to_string()) {
                        return Ok(());
                    }
                    answer = None;
                }
                (byte, Some(line)) if line.len() < LONGEST_SYNC => line.push(byte),
                _ => answer = None,
            }
        }
        Err(AgentError::Babble)
    }

    /// Ask, and read the answer as a `T`.
    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, ask: Ask<'_>) -> Result<T, AgentError> {
        let line = self.exchange(&ask, ask.within).await?;
        let returned = returned(ask.command, &line)?;
        serde_json::from_str(returned.get()).map_err(|error| AgentError::Garbage {
            command: ask.command.to_owned(),
            what: clean(&error.to_string()),
        })
    }

    /// Ask for what is answered only when it fails: silence, and the end of the guest, are good.
    pub(super) async fn tell(&mut self, ask: Ask<'_>) -> Result<(), AgentError> {
        match self.exchange(&ask, GRACE).await {
            Ok(line) => returned(ask.command, &line).map(drop),
            Err(AgentError::Unanswered { .. } | AgentError::Closed | AgentError::Io(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Pass a request on as it is, and its answer, which may be an error.
    pub(super) async fn pass(
        &mut self,
        request: &RawValue,
        ask: Ask<'_>,
    ) -> Result<Box<RawValue>, AgentError> {
        let mut line = request.get().replace(['\n', '\r'], " ").into_bytes();
        line.push(b'\n');
        let line = self.exchange_line(&line, &ask, ask.within).await?;
        let text = String::from_utf8(line).map_err(|error| garbage(ask.command, &error))?;
        RawValue::from_string(text).map_err(|error| garbage(ask.command, &error))
    }

    async fn exchange(&mut self, ask: &Ask<'_>, within: Duration) -> Result<Vec<u8>, AgentError> {
        self.exchange_line(&ask.line(), ask, within).await
    }

    async fn exchange_line(
        &mut self,
        request: &[u8],
        ask: &Ask<'_>,
        within: Duration,
    ) -> Result<Vec<u8>, AgentError> {
        let command = || ask.command.to_owned();
        let talk = async {
            self.send(request).await?;
            loop {
                let line = self.line(ask).await?;
                if !line.trim_ascii().is_empty() {
                    return Ok(line);
                }
            }
        };
        in_time(talk, within, || AgentError::Unanswered { command: command(), within }).await
    }

    /// Up to the end of the line, which is not too long.
    async fn line(&mut self, ask: &Ask<'_>) -> Result<Vec<u8>, AgentError> {
        let mut line = Vec::new();
        loop {
            self.fill().await?;
            let unread = &self.chunk[self.unread.clone()];
            let end = unread.iter().position(|byte| *byte == b'\n');
            let part = &unread[..end.unwrap_or(unread.len())];
            if line.len() + part.len() > ask.longest {
                let (command, longest) = (ask.command.to_owned(), ask.longest);
                return Err(AgentError::TooLong { command, longest });
            }
            line.extend_from_slice(part);
            self.unread.start += part.len() + usize::from(end.is_some());
            if end.is_some() {
                return Ok(line);
            }
        }
    }

    async fn byte(&mut self) -> Result<u8, AgentError> {
        self.fill().await?;
        let byte = self.chunk[self.unread.start];
        self.unread.start += 1;
        Ok(byte)
    }

    /// Have something to look at.
    async fn fill(&mut self) -> Result<(), AgentError> {
        if self.unread.is_empty() {
            match self.stream.read(&mut self.chunk).await.map_err(AgentError::Io)? {
                0 => return Err(AgentError::Closed),
                count => self.unread = 0..count,
            }
        }
        Ok(())
    }

    async fn send(&mut self, request: &[u8]) -> Result<(), AgentError> {
        self.stream.write_all(request).await.map_err(AgentError::Io)?;
        self.stream.flush().await.map_err(AgentError::Io)
    }
}

async fn in_time<T>(
    work: impl Future<Output = Result<T, AgentError>>,
    within: Duration,
    late: impl FnOnce() -> AgentError,
) -> Result<T, AgentError> {
    tokio::time::timeout(within, work).await.unwrap_or_else(|_| Err(late()))
}

fn returned<'a>(command: &str, line: &'a [u8]) -> Result<&'a RawValue, AgentError> {
    let answer: Answer<'_> =
        serde_json::from_slice(line).map_err(|error| garbage(command, &error))?;
    match answer {
        Answer { error: Some(Refusal { class, desc }), .. } => {
            Err(AgentError::refused(command, &class, &desc))
        }
        Answer { returned: Some(returned), .. } => Ok(returned),
        Answer { .. } => Err(garbage(command, &"it holds neither a return nor an error")),
    }
}

fn garbage(command: &str, what: &dyn std::fmt::Display) -> AgentError {
    AgentError::Garbage { command: command.to_owned(), what: clean(&what.to_string()) }
}
