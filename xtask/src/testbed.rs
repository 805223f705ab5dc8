//! `cargo xtask testbed up|exec|put|get|status|down`.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, Subcommand};
use manor_tests::testbed::{self, Disk, HostCrash, Options, Outcome, Status, Testbed};
use testbed_agent::wire::Kind;

/// As env(1) and timeout(1) do, so that a command's own status can be told from ours.
const TIMED_OUT: u8 = 124;
const FAILED: u8 = 125;
const HOST_CRASHED: u8 = 122;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Boot it, or find it running
    Up {
        #[command(flatten)]
        which: Which,
        /// Memory of the emulated host in MiB
        #[arg(long, default_value_t = 4096)]
        memory: u32,
        /// Power off after this many seconds without a command (0: never)
        #[arg(long, default_value_t = 0)]
        idle: u64,
        /// An ext4 image, mounted read-only at /mnt/NAME (may be repeated)
        #[arg(long, value_name = "NAME=IMAGE", value_parser = parse_disk)]
        disk: Vec<Disk>,
        /// With a QEMU that bears UEFI firmware as a guest
        #[arg(long)]
        uefi: bool,
    },
    /// Run a command inside; its output and status become those of this command
    ///
    /// Status 124: the time limit passed. 125: the testbed is not up or does not answer.
    /// 122: the emulated host crashed.
    Exec {
        #[command(flatten)]
        which: Which,
        /// Kill the command after this many seconds (0: never)
        #[arg(long, default_value_t = 0)]
        timeout: u64,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Copy a file in
    Put {
        #[command(flatten)]
        which: Which,
        local: PathBuf,
        remote: String,
    },
    /// Copy a file out
    Get {
        #[command(flatten)]
        which: Which,
        remote: String,
        local: PathBuf,
    },
    /// Say whether it runs, and on which port Manor's HTTP API is found
    Status {
        #[command(flatten)]
        which: Which,
    },
    /// End it; nothing stays behind
    Down {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Args)]
pub(crate) struct Which {
    /// Several testbeds may run side by side under different names
    #[arg(long, default_value = "dev", env = "MANOR_TESTBED")]
    name: String,
}

pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up { which, memory, idle, disk, uefi } => {
            let started = Instant::now();
            let mut options = Options::named(&which.name);
            options.memory_mib = memory;
            options.idle = Duration::from_secs(idle);
            options.disks = disk;
            options.uefi = uefi;
            Testbed::up(&options)?;
            println!("up after {:.1} s", started.elapsed().as_secs_f32());
            show(&which.name)
        }
        Command::Exec { which, timeout, command } => exec(&which.name, timeout, &command),
        Command::Put { which, local, remote } => {
            Testbed::running(&which.name)?.put(&local, &remote)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Get { which, remote, local } => {
            let contents = Testbed::running(&which.name)?.read(&remote)?;
            std::fs::write(&local, contents).with_context(|| format!("cannot write {local:?}"))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Status { which } => show(&which.name),
        Command::Down { which } => {
            Testbed::down(&which.name)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn parse_disk(text: &str) -> Result<Disk, String> {
    let (name, image) = text.split_once('=').ok_or("expected NAME=IMAGE")?;
    Ok(Disk { name: name.to_owned(), image: image.into() })
}

pub(crate) fn status_of(error: &anyhow::Error) -> u8 {
    if error.is::<HostCrash>() { HOST_CRASHED } else { FAILED }
}

fn exec(name: &str, timeout: u64, command: &[String]) -> anyhow::Result<ExitCode> {
    let testbed = Testbed::running(name)?;
    let argv: Vec<_> = command.iter().map(String::as_str).collect();
    let mut command = testbed.command(&argv).timeout(Duration::from_secs(timeout));
    // A terminal has no end of its own; commands that want one are not for this door.
    if !io::stdin().is_terminal() {
        command = command.stdin(io::stdin());
    }
    let outcome = command.stream(|kind, bytes| {
        // A closed pipe on our side (`| head`) is no reason to stop the command.
        let _ = if kind == Kind::Stdout {
            io::stdout().write_all(bytes).and_then(|()| io::stdout().flush())
        } else {
            io::stderr().write_all(bytes)
        };
    })?;
    Ok(ExitCode::from(match outcome {
        Outcome::Code(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Outcome::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        Outcome::TimedOut => TIMED_OUT,
    }))
}

fn show(name: &str) -> anyhow::Result<ExitCode> {
    match testbed::status(name)? {
        Status::Down => {
            println!("{name}: down");
            return Ok(ExitCode::from(1));
        }
        Status::Up { http_port, console, .. } => {
            println!("{name}: up");
            println!("manor's HTTP API, once it listens there: http://127.0.0.1:{http_port}");
            println!("console: {}", console.display());
        }
        Status::Crashed { reason, console } => {
            println!("{name}: host crash: {reason}");
            println!("console: {}", console.display());
            return Ok(ExitCode::from(HOST_CRASHED));
        }
    }
    Ok(ExitCode::SUCCESS)
}
