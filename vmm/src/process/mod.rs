//! The process behind `manor run-domain`: one guest, from the configuration on its first
//! descriptor to the record of how it ended.
//!
//! ```text
//! descriptors ─▶ config ─▶ machine built ─▶ filters on ─▶ guest runs ─▶ exit record
//!                                                          │ control socket, signals, vCPU stops
//!                                                          └ one loop on the main thread
//! ```
//! Nothing here depends on a daemon: it can come, go and crash, and the guest does not notice.

mod client;
mod dirty_rate;
mod domain;
mod exit;
mod files;
mod log;
mod pacing;
mod power;
mod refusals;
mod ring;
mod save;
mod server;
mod sys;
mod terms;

use std::error::Error;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

use vmm_protocol::Version;
use vmm_protocol::config::{FIRST_FD, MachineConfig, ProcessFiles};
use vmm_protocol::exit::ExitReason;

pub use files::{FileError, Files};
pub(crate) use sys::{resident, thread_time};

use crate::build::BuildError;
use crate::isolation::{IsolationError, Needs, isolate};
use crate::machine::MachineError;
use crate::sandbox::{Kind, Sandbox, SandboxError};
use domain::Domain;
use exit::ExitFile;
use server::Server;
use terms::{Terms, TermsError};

/// Largest configuration, bytes: the largest message on the control socket, too.
const MAX_CONFIG: u64 = vmm_protocol::wire::MAX_MESSAGE as u64;

#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error(transparent)]
    Terms(#[from] TermsError),
    #[error("cannot read the configuration from descriptor {FIRST_FD}")]
    ReadConfig(#[source] io::Error),
    #[error("the configuration is longer than {MAX_CONFIG} bytes")]
    ConfigTooLong,
    #[error("the configuration is not valid")]
    BadConfig(#[source] serde_json::Error),
    #[error("the configuration is of version {found}; this VMM reads {}", Version::CURRENT)]
    Version { found: Version },
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot prepare the process")]
    Prepare(#[source] io::Error),
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error("cannot confine the main thread")]
    Confine(#[source] io::Error),
    #[error("the control socket failed")]
    Control(#[source] io::Error),
}

/// Run one domain to its end. Called first thing in a process of its own.
pub fn run_domain(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::from(run(arguments))
}

/// [`run_domain`] with its exit status as a number (see [`vmm_protocol::exit::status`]).
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    sys::use_one_heap();
    sys::ignore_signals();
    let (config, mut files) = match read_config(arguments) {
        Ok(found) => found,
        // Without a configuration there is no log and no record either.
        Err(error) => return complain(&error),
    };
    let log = config.process.log.map(|fd| files.take_file(fd)).transpose();
    let record = files.take_file(config.process.exit_record).map(ExitFile::new);
    let (log, mut record) = match (log, record) {
        (Ok(log), Ok(record)) => (log, record),
        (Err(error), _) | (_, Err(error)) => return complain(&error),
    };
    log::install(log);
    let reason = match serve(&config, files, &mut record) {
        Ok(reason) => reason,
        Err(error) => {
            let message = chain(&error);
            tracing::error!(message, "the domain could not be run");
            let reason = ExitReason::Failed { message };
            record.write(&reason, 0);
            reason
        }
    };
    vmm_protocol::exit::status(&reason)
}

fn read_config(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<(MachineConfig, Files), ProcessError> {
    let terms = Terms::parse(arguments)?;
    let mut text = Vec::new();
    let file = sys::adopt(FIRST_FD).map_err(ProcessError::ReadConfig)?;
    File::from(file)
        .take(MAX_CONFIG + 1)
        .read_to_end(&mut text)
        .map_err(ProcessError::ReadConfig)?;
    let config = parse_config(&text)?;
    terms.judge(&config.process)?;
    let files = Files::adopt(&config)?;
    Ok((config, files))
}

fn parse_config(text: &[u8]) -> Result<MachineConfig, ProcessError> {
    #[derive(serde::Deserialize)]
    struct OnlyVersion {
        version: Version,
    }
    if text.len() as u64 > MAX_CONFIG {
        return Err(ProcessError::ConfigTooLong);
    }
    // The version first: what else a newer configuration holds must not matter for the message.
    let OnlyVersion { version } = serde_json::from_slice(text).map_err(ProcessError::BadConfig)?;
    if !Version::CURRENT.understands(version) {
        return Err(ProcessError::Version { found: version });
    }
    serde_json::from_slice(text).map_err(ProcessError::BadConfig)
}

fn serve(
    config: &MachineConfig,
    mut files: Files,
    record: &mut ExitFile,
) -> Result<ExitReason, ProcessError> {
    sys::harden().map_err(ProcessError::Prepare)?;
    name_process(&config.identity.name);
    let signals = sys::signals().map_err(ProcessError::Prepare)?;
    sys::open_statistics();
    let pid = sys::outer_pid();
    let process: &ProcessFiles = &config.process;
    let mut layers = isolate(
        process.isolation,
        Needs {
            files: files.len(),
            memory: config.memory.size,
            vcpus: config.cpus.count,
            locked_memory: config.memory.locked,
        },
    )?;
    let listener = UnixListener::from(files.take(process.control)?);
    // Locks are held by being open, until the process is gone.
    let locks: Result<Vec<_>, _> = process.locks.iter().map(|fd| files.take(*fd)).collect();
    let _locks = locks?;
    let sandbox = if process.seccomp { Sandbox::on()? } else { Sandbox::off() };
    let mut server = Server::new(listener).map_err(ProcessError::Control)?;

    let machine = crate::build::build(config, &mut files, &sandbox)?;
    drop(files);
    let inbox = machine.inbox().clone();
    layers.push(("seccomp".to_owned(), if sandbox.is_on() { "on" } else { "off" }.to_owned()));
    let mut domain = Domain::new(
        machine,
        config.identity.clone(),
        config.lifecycle,
        process.live_record.clone(),
        pid,
        layers,
    );
    sys::forget_startup_code();
    sandbox.enter(Kind::Main).map_err(ProcessError::Confine)?;
    domain.start(config.start_paused, config.restore.is_some())?;
    tracing::info!(domain = config.identity.name, "the guest is started");

    let reason = match server.run(&mut domain, inbox.bell(), signals.as_fd()) {
        Ok(reason) => reason,
        Err(error) => {
            let message = chain(&ProcessError::Control(error));
            tracing::error!(message, "the control loop failed");
            ExitReason::Failed { message }
        }
    };
    let stopped = domain.shut_down();
    // The record first: who sees the connection end shall find it.
    record.write(&reason, domain.events().last());
    server.farewell(&domain);
    if let Err(error) = stopped {
        // Taking the machine apart would wait for what does not stop; the end of the process won't.
        tracing::error!(error = chain(&error), "the machine did not stop in good order");
        std::mem::forget(domain);
    }
    Ok(reason)
}

/// What `ps` and `top` show: `vm:` and as much of the domain's name as the kernel keeps.
fn name_process(domain: &str) {
    let mut name: Vec<u8> = format!("vm:{domain}").bytes().filter(|byte| *byte != 0).collect();
    name.truncate(15);
    if let Ok(name) = CString::new(name) {
        // A label for people: the guest runs as well without.
        let _ = rustix::thread::set_name(&name);
    }
}

fn complain(error: &(dyn Error + 'static)) -> u8 {
    let _ =
        io::Write::write_all(&mut io::stderr(), format!("manor: {}\n", chain(error)).as_bytes());
    1
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Transparent errors repeat the text of what is below them.
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
