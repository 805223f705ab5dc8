//! What a guest's agent can be asked to do: run programs, set passwords and the clock, and whatever
//! else its own protocol has.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::agent::replies::{ExecStatus, Nothing, Started};
use crate::agent::{self, Agent, Ask};
use crate::auth::{Access, Subject};
use crate::domain::{DomainRef, GuestExecState};
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};

/// Of a command that a caller wrote, where the caller gives no time.
const RAW: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// Pass a command on as it is (virDomainQemuAgentCommand). The answer is the agent's, and may be an
/// error of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskAgent {
    pub domain: DomainRef,
    /// `{"execute": …}`
    pub command: String,
    /// Seconds.
    pub timeout: Option<u32>,
}

impl Operation for AskAgent {
    type Output = Box<RawValue>;
    const NAME: &'static str = "domain.ask-agent";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Box<RawValue>, Error> {
        #[derive(Deserialize)]
        struct Command {
            execute: String,
        }
        let not_one = |error: serde_json::Error| {
            let text = "a command for a guest agent is JSON such as {\"execute\": \"guest-ping\"}";
            Error::new(Code::InvalidArgument, text).with_source(error)
        };
        let Command { execute } = serde_json::from_str(&self.command).map_err(not_one)?;
        let request = RawValue::from_string(self.command).map_err(not_one)?;
        let within = self.timeout.map_or(RAW, |seconds| Duration::from_secs(seconds.into()));
        let ask = Ask::new(&execute).within(within.min(LONGEST_WAIT)).long();
        let mut agent = Agent::meet(&cx.find(&self.domain)?).await?;
        agent.pass(&request, ask).await
    }
}

/// Start a program in a guest. Its number there comes back; [`GuestExecStatus`] tells the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestExec {
    pub domain: DomainRef,
    pub program: String,
    pub arguments: Vec<String>,
    /// `NAME=value`
    pub environment: Vec<String>,
    pub input: Option<Vec<u8>>,
    /// Keep what it writes, for [`GuestExecStatus`].
    pub capture: bool,
}

impl Operation for GuestExec {
    type Output = i64;
    const NAME: &'static str = "domain.guest-exec";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<i64, Error> {
        let mut what = json!({ "path": self.program, "capture-output": self.capture });
        if !self.arguments.is_empty() {
            what["arg"] = self.arguments.into();
        }
        if !self.environment.is_empty() {
            what["env"] = self.environment.into();
        }
        if let Some(input) = self.input {
            what["input-data"] = STANDARD.encode(input).into();
        }
        let mut agent = Agent::meet(&cx.find(&self.domain)?).await?;
        let Started { pid } = agent.ask(Ask::new("guest-exec").with(what)).await?;
        Ok(pid)
    }
}

/// What became of a program that [`GuestExec`] started. Its agent tells of its end once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestExecStatus {
    pub domain: DomainRef,
    pub pid: i64,
}

impl Operation for GuestExecStatus {
    type Output = GuestExecState;
    const NAME: &'static str = "domain.guest-exec-status";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<GuestExecState, Error> {
        let mut agent = Agent::meet(&cx.find(&self.domain)?).await?;
        let ask = Ask::new("guest-exec-status").with(json!({ "pid": self.pid })).long();
        let status: ExecStatus = agent.ask(ask).await?;
        let output = |data: Option<String>| {
            STANDARD.decode(data.unwrap_or_default()).map_err(|error| {
                let text = "the guest agent's answer holds output that is no base64";
                Error::new(Code::InvalidState, text).with_source(error)
            })
        };
        Ok(GuestExecState {
            exited: status.exited,
            exit_code: status.exit_code,
            signal: status.signal,
            stdout: output(status.out_data)?,
            stderr: output(status.err_data)?,
            truncated: status.out_truncated || status.err_truncated,
        })
    }
}

/// Set the password of a user of the guest (virDomainSetUserPassword).
#[derive(Clone, PartialEq, Eq)]
pub struct SetUserPassword {
    pub domain: DomainRef,
    pub user: String,
    pub password: String,
    /// It is one already, as `crypt` makes them.
    pub encrypted: bool,
}

impl Operation for SetUserPassword {
    type Output = ();
    const NAME: &'static str = "domain.set-user-password";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let mut agent = Agent::meet(&cx.find(&self.domain)?).await?;
        let ask = Ask::new("guest-set-user-password").with(json!({
            "username": self.user,
            "password": STANDARD.encode(self.password),
            "crypted": self.encrypted,
        }));
        let Nothing {} = agent.ask(ask).await?;
        Ok(())
    }
}

/// The guest's clock (virDomainGetTime): nanoseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetGuestTime {
    pub domain: DomainRef,
}

impl Operation for GetGuestTime {
    type Output = i64;
    const NAME: &'static str = "domain.guest-time";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<i64, Error> {
        let mut agent = Agent::meet(&cx.find(&self.domain)?).await?;
        agent.ask(Ask::new("guest-get-time")).await
    }
}

/// Set the guest's clock (virDomainSetTime).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetGuestTime {
    pub domain: DomainRef,
    /// Nanoseconds since the Unix epoch; none: as the clock of its hardware says.
    pub time: Option<i64>,
}

impl Operation for SetGuestTime {
    type Output = ();
    const NAME: &'static str = "domain.set-guest-time";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        agent::set_time(&cx.find(&self.domain)?, self.time).await
    }
}
