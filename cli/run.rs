//! `manor run FILE.xml`: one domain in the foreground, without a daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use management::foreground::{self, Options};
use management::{CloudInit, Code, Error};
use vmm_protocol::exit::ExitReason;

use crate::args::Run;
use crate::failure::{Exit, Failure};
use crate::terminal::Terminal;
use crate::verbs;

pub(crate) fn run(args: &Run, terminal: &Terminal) -> Result<ExitCode, Failure> {
    let xml = verbs::read_document(&args.file)?;
    let file = args.file.display().to_string();
    let cloud_init = verbs::read_cloud_init(&args.cloud_init)?.map(|read| CloudInit {
        user_data: read.user_data,
        meta_data: read.meta_data,
        network_config: read.network_config,
    });
    let options = Options {
        xml,
        cloud_init,
        run_dir: args.run_dir.clone().unwrap_or_else(run_dir),
        seccomp: !args.no_seccomp,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start: {error}")))?;
    let quiet = terminal.quiet;
    let warn = |problem: &management::Problem| {
        if !quiet {
            terminal.warn(&format!("{file}:{problem}"));
        }
    };
    let result = runtime.block_on(foreground::run(options, warn));
    // A thread may still wait for the keyboard; the process does not wait for it.
    runtime.shutdown_background();
    match result {
        Ok(reason) => Ok(ended(&reason, terminal)),
        Err(error) => Err(refused(&error, &file)),
    }
}

/// How the guest ended, as an exit status: 0 when it went in order.
fn ended(reason: &ExitReason, terminal: &Terminal) -> ExitCode {
    match reason {
        ExitReason::Shutdown | ExitReason::Destroyed | ExitReason::Saved => ExitCode::SUCCESS,
        ExitReason::Crashed(report) => {
            let mut text = format!("the guest crashed: {}", report.cause);
            if let Some(vcpu) = report.vcpu {
                text.push_str(&format!(" on vCPU {vcpu}"));
            }
            Failure::new(Exit::GuestCrashed, text).report(terminal);
            if let Some(registers) = &report.registers {
                terminal.complain(&format!("{}\n", registers.trim_end()));
            }
            ExitCode::from(Exit::GuestCrashed as u8)
        }
        ExitReason::Failed { message } => {
            Failure::other(message.clone()).report(terminal);
            ExitCode::from(Exit::Failed as u8)
        }
    }
}

fn refused(error: &Error, file: &str) -> Failure {
    let exit = match error.code {
        Code::NotFound | Code::DeviceNotFound => Exit::NotFound,
        Code::Exists
        | Code::InvalidState
        | Code::Risky
        | Code::Changed
        | Code::Busy
        | Code::Locked => Exit::Conflict,
        Code::Denied => Exit::Denied,
        _ => Exit::Failed,
    };
    let attempt = format!("Failed to run domain from {file}");
    let mut failure = Failure::new(exit, attempt);
    let found: Vec<_> = error.problems.iter().filter(|problem| !problem.warning).collect();
    if found.is_empty() {
        failure = failure.also(error.chain());
    }
    for problem in found {
        let between = if problem.line > 0 { ":" } else { ": " };
        failure = failure.also(format!("{file}{between}{problem}"));
    }
    failure
}

/// Where this user's sockets may lie.
fn run_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/run/manor".into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(directory) => PathBuf::from(directory).join("manor"),
        None => std::env::temp_dir().join(format!("manor-{}", rustix::process::geteuid())),
    }
}
