//! What fuzz targets do with what guests and packages say to the daemon.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use broker::{Broker, BrokerError, Granted, Local, Request};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::agent::replies::{
    Disk, ExecStatus, Filesystem, HostName, NetworkInterface, OsInfo, Started, Timezone, Trimmed,
    User,
};
use crate::agent::{AgentError, Ask, Session};
use crate::config::Config;
use crate::firmware;
use crate::manager::Manager;

/// Makes the directories that a daemon needs, and refuses all else: whatever strangers make of their
/// requests, nothing of it reaches the host.
struct Powerless(Local);

impl Broker for Powerless {
    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
        match request {
            Request::MakeRunDir { .. } => self.0.perform(request, files),
            _ => Err(BrokerError::NoCgroup { reason: "this daemon does nothing".to_owned() }),
        }
    }
}

/// A daemon of this directory that can do nothing to the host, behind a front end that is tried.
///
/// # Panics
/// If the directory cannot be written.
pub async fn powerless_manager(directory: &Path) -> Manager {
    let config = Config {
        state_dir: directory.join("state"),
        run_dir: directory.join("run"),
        log_dir: directory.join("log"),
        ..Config::default()
    };
    let opened = Manager::open_with(config, Arc::new(Powerless(Local::new()))).await;
    opened.expect("a directory that can be written")
}

/// A guest agent that finds its place and then says anything.
///
/// # Panics
/// If an answer is not dealt with.
pub fn agent(said: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime of one thread").block_on(converse(said));
}

async fn converse(said: &[u8]) {
    let stream = Agent { said, synchronised: false, answer: Vec::new() };
    let Ok(mut session) = Session::open(stream, crate::agent::AgentTimeout::Usual).await else {
        return;
    };
    let mut going = true;
    while going {
        going = answers::<HostName>(&mut session).await
            && answers::<Vec<NetworkInterface>>(&mut session).await
            && answers::<OsInfo>(&mut session).await
            && answers::<Vec<Filesystem>>(&mut session).await
            && answers::<Vec<Disk>>(&mut session).await
            && answers::<Vec<User>>(&mut session).await
            && answers::<Timezone>(&mut session).await
            && answers::<Trimmed>(&mut session).await
            && answers::<Started>(&mut session).await
            && answers::<ExecStatus>(&mut session).await
            && answers::<i64>(&mut session).await;
    }
}

/// Whether the agent goes on; what it says is read into a type, or an error that people can see.
async fn answers<T: DeserializeOwned>(session: &mut Session<Agent<'_>>) -> bool {
    match session.ask::<T>(Ask::new("guest-torture")).await {
        Ok(_) => true,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
            !matches!(error, AgentError::Closed | AgentError::Io(_))
        }
    }
}

/// What it answers to the first line is what it is asked for; then comes what was said, to its end.
struct Agent<'a> {
    said: &'a [u8],
    synchronised: bool,
    answer: Vec<u8>,
}

impl AsyncRead for Agent<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let agent = self.get_mut();
        let count = agent.answer.len().min(into.remaining());
        into.put_slice(&agent.answer[..count]);
        agent.answer.drain(..count);
        if count == 0 {
            let count = agent.said.len().min(into.remaining());
            into.put_slice(&agent.said[..count]);
            agent.said = &agent.said[count..];
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Agent<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        line: &[u8],
    ) -> Poll<io::Result<usize>> {
        let agent = self.get_mut();
        let text = String::from_utf8_lossy(line);
        let number = text.split("\"id\":").nth(1).map(|rest| rest.split('}').next().unwrap_or(""));
        if let Some(number) = number.filter(|_| !agent.synchronised) {
            agent.synchronised = true;
            agent.answer = [b"\xff{\"return\":", number.as_bytes(), b"}\n"].concat();
        }
        Poll::Ready(Ok(line.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A firmware descriptor of any package.
pub fn descriptor(text: &[u8]) {
    firmware::weigh(text);
}

#[cfg(test)]
mod tests {
    use manor_tests::seeds;

    #[test]
    fn agents_may_say_anything() {
        seeds::replay("agent", 400, super::agent);
    }

    #[test]
    fn descriptors_may_be_anything() {
        seeds::replay("descriptor", 400, super::descriptor);
    }
}
