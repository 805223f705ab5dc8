//! Starting a VMM, and knowing it again: by a pidfd and its start time, never by a bare number.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open as open_file};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use serde::{Deserialize, Serialize};
use vmm_protocol::config::FIRST_FD;

use crate::cgroup::limits::Limits;
use crate::ledger::Ledger;
use crate::policy::Judge;
use crate::request::SpawnedProcess;
use crate::sys::Pids;
use crate::{BrokerError, Role, cgroup, scope, sys};

/// A process as one can write it down: a number alone is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    pub pid: u32,
    /// Clock ticks after the host's boot.
    pub start_time: u64,
}

/// A process one holds on to. Its descriptor becomes readable when the process ends.
#[derive(Debug)]
pub struct Process {
    pidfd: OwnedFd,
    /// Its parent's word of how it ended, if that is not us.
    fate: Option<OwnedFd>,
}

/// Between the end of a process and its parent's word of it.
const WORD: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.pidfd.as_raw_fd()
    }
}

impl ProcessId {
    /// What is known of a running process.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, field 2, may hold anything, also spaces and parentheses.
        let (_, fields) = stat.rsplit_once(')')?;
        let start_time = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
        Some(Self { pid, start_time })
    }

    /// Hold on to it, if it still is that process.
    #[must_use]
    pub fn open(self) -> Option<Process> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Looked at after opening: now the number cannot be reused behind our back.
        (Self::of(self.pid)? == self).then_some(Process { pidfd, fate: None })
    }
}

impl Process {
    /// Another's child: its pidfd, and a pipe that will say how it ended.
    pub(crate) fn of_another(pidfd: OwnedFd, fate: OwnedFd) -> Self {
        Self { pidfd, fate: Some(fate) }
    }

    /// How it ended, in words; none if it runs, or nobody knows.
    #[must_use]
    pub fn reap(&self) -> Option<String> {
        if let Some(fate) = &self.fate {
            return self.hear(fate);
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::PidFd(self.pidfd.as_fd()), options).ok()??;
        if let Some(signal) = status.terminating_signal() {
            return Some(format!("killed by signal {signal}"));
        }
        status.exit_status().map(|code| format!("exit status {code}"))
    }

    fn hear(&self, fate: &OwnedFd) -> Option<String> {
        let ready = |file: BorrowedFd<'_>, within: &Timespec| {
            let mut watched = [PollFd::from_borrowed_fd(file, PollFlags::IN)];
            matches!(poll(&mut watched, Some(within)), Ok(1..))
        };
        if !ready(self.pidfd.as_fd(), &Timespec::default()) || !ready(fate.as_fd(), &WORD) {
            return None;
        }
        let mut text = [0; 64];
        let count = rustix::io::read(fate, &mut text).ok().filter(|count| *count > 0)?;
        text.get(..count).map(|text| String::from_utf8_lossy(text).into_owned())
    }
}

pub(crate) fn kill(process: ProcessId, cgroup: Option<&Path>) -> Result<(), BrokerError> {
    let held = process.open();
    if let Some(process) = &held {
        pidfd_send_signal(&process.pidfd, Signal::KILL)
            .map_err(|errno| BrokerError::host("kill the VMM")(errno.into()))?;
    }
    if let Some(path) = cgroup
        && let Err(error) = cgroup::kill(path)
    {
        // An old kernel, or already gone: the main process is dealt with.
        tracing::debug!(path = %path.display(), %error, "cgroup.kill");
    }
    match held {
        Some(_) => Ok(()),
        None => Err(BrokerError::OtherProcess { pid: process.pid }),
    }
}

pub(crate) struct Command<'a> {
    pub role: Role,
    pub program: &'a Path,
    pub arguments: &'a [String],
    /// In a pid namespace of its own, where we may make one.
    pub own_pids: bool,
    pub name: &'a str,
    /// Where it writes what goes wrong. None: it has the terminal of the broker, and ends with the
    /// thread that started it.
    pub log: Option<OwnedFd>,
    pub cgroup: Option<&'a Path>,
    pub limits: &'a Limits,
    /// Where it is written down that it is ours; none: nobody asks.
    pub ledger: Option<&'a Ledger>,
}

pub(crate) fn spawn(
    command: &Command<'_>,
    files: &[BorrowedFd<'_>],
) -> Result<SpawnedProcess, BrokerError> {
    let what = match command.role {
        Role::Domain => "VMM",
        Role::Network => "server",
    };
    let act = format!("start the {what} of {:?}", command.name);
    limit(command)?;
    let prepared = prepare(command, files).map_err(BrokerError::host(act.clone()))?;
    let child = start(prepared, command).map_err(BrokerError::host(act.clone()))?;
    let id = ProcessId::of(child.pid)
        .ok_or_else(|| BrokerError::Host { act, source: io::Error::other("it ended at once") })?;
    Ok(SpawnedProcess { id, process: Process { pidfd: child.pidfd, fate: None } })
}

fn start(mut exec: sys::Exec, command: &Command<'_>) -> io::Result<sys::Child> {
    if exec.pids == Pids::OwnByUser {
        match sys::spawn(&exec, |pid| settle(pid, command).and_then(|()| remain_oneself(pid))) {
            Ok(child) => return Ok(child),
            Err(error) => {
                tracing::info!(%error, name = command.name, "no pid namespace without root here");
            }
        }
        exec.pids = Pids::Ours;
    }
    sys::spawn(&exec, |pid| settle(pid, command))
}

/// In its user namespace a process is nobody until it is said whom of ours it is, and nobody may make
/// namespaces of its own: it is our user there as well, and can have no groups (user_namespaces(7)).
fn remain_oneself(pid: u32) -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let write = |file: &str, text: &str| std::fs::write(format!("/proc/{pid}/{file}"), text);
    write("setgroups", "deny")?;
    write("uid_map", &format!("{0} {0} 1", user.as_raw()))?;
    write("gid_map", &format!("{0} {0} 1", group.as_raw()))
}

/// What the process may use, where its cgroup is there already. A scope is made with its limits.
fn limit(command: &Command<'_>) -> Result<(), BrokerError> {
    match command.cgroup {
        Some(path) if scope::unit_of(path).is_some() => Ok(()),
        Some(path) if *command.limits != Limits::default() => cgroup::limit(path, command.limits),
        Some(_) => Ok(()),
        None => match command.limits.controllers().first() {
            None => Ok(()),
            Some(controller) => Err(BrokerError::NoController {
                controller: (*controller).into(),
                reason: "the domain has no cgroup".to_owned(),
            }),
        },
    }
}

/// What is done to a process from outside, before it is a VMM.
fn settle(pid: u32, command: &Command<'_>) -> io::Result<()> {
    if let Some(ledger) = command.ledger {
        let process = ProcessId::of(pid).ok_or_else(|| io::Error::other("it ended at once"))?;
        ledger.add_process(process).map_err(|error| unwritten(ledger, error))?;
    }
    // The daemon's own protection from the kernel's out-of-memory killer is not for guests.
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), "0")?;
    let Some(path) = command.cgroup else { return Ok(()) };
    let Some(unit) = scope::unit_of(path) else { return Ok(()) };
    scope::adopt(pid, unit, command.name, command.limits)?;
    if let Some(ledger) = command.ledger {
        ledger.add_cgroup(path).map_err(|error| unwritten(ledger, error))?;
    }
    cgroup::check(path, command.limits).map_err(io::Error::other)
}

fn unwritten(ledger: &Ledger, error: io::Error) -> io::Error {
    let path = ledger.path().display();
    io::Error::new(error.kind(), format!("it cannot be written down in {path}: {error}"))
}

/// Everything the new process needs, made before it exists: between clone and exec nothing may be
/// allocated.
fn prepare(command: &Command<'_>, files: &[BorrowedFd<'_>]) -> io::Result<sys::Exec> {
    let null = null()?;
    let copy = |file: BorrowedFd<'_>| file.try_clone_to_owned();
    let [input, out, err] = match &command.log {
        Some(log) => [null.try_clone()?, null, log.try_clone()?],
        None => {
            [copy(io::stdin().as_fd())?, copy(io::stdout().as_fd())?, copy(io::stderr().as_fd())?]
        }
    };
    let count = i32::try_from(files.len()).map_err(io::Error::other)?;
    // Sources lie above every target, so that no copy overwrites a source yet to be copied.
    let above = FIRST_FD + count;
    let raise = |file: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(file, above);
    let mut table = Vec::with_capacity(files.len() + 3);
    for (target, file) in [input.as_fd(), out.as_fd(), err.as_fd()].into_iter().enumerate() {
        table.push((raise(file)?, i32::try_from(target).map_err(io::Error::other)?));
    }
    for (file, target) in files.iter().zip(FIRST_FD..) {
        table.push((raise(*file)?, target));
    }
    // The name is for whoever reads the process list.
    let kind = match command.role {
        Role::Domain => "guest",
        Role::Network => "network",
    };
    let mut arguments = vec![c_string(format!("manor {kind}={}", command.name).as_bytes())?];
    for argument in command.arguments {
        arguments.push(c_string(argument.as_bytes())?);
    }
    Ok(sys::Exec {
        program: c_string(command.program.as_os_str().as_bytes())?,
        arguments,
        environment: environment(),
        table,
        first_closed: above,
        cgroup: match command.cgroup.filter(|path| scope::unit_of(path).is_none()) {
            Some(path) => Some(directory(path)?),
            None => None,
        },
        pids: if command.own_pids { own_pids() } else { Pids::Ours },
        end_with_parent: command.log.is_none(),
    })
}

/// How a VMM comes by a pid namespace. Without one it is among the host's processes, none of which it may
/// touch.
fn own_pids() -> Pids {
    let held = rustix::thread::capabilities(None);
    let wanted = rustix::thread::CapabilitySet::SYS_ADMIN;
    match held.is_ok_and(|held| held.effective.contains(wanted)) {
        true => Pids::Own,
        // Root without its capabilities would have them again, of a namespace where VMMs' users are not.
        false if rustix::process::geteuid().is_root() => Pids::Ours,
        false => Pids::OwnByUser,
    }
}

/// Of the daemon's environment a VMM gets what its diagnostics use.
fn environment() -> Vec<CString> {
    ["RUST_LOG", "RUST_BACKTRACE"]
        .iter()
        .filter_map(|name| CString::new(format!("{name}={}", std::env::var(name).ok()?)).ok())
        .collect()
}

pub(crate) fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(io::Error::other)
}

pub(crate) fn null() -> io::Result<OwnedFd> {
    Ok(open_file("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

pub(crate) fn log(judge: Judge<'_>, path: &Path) -> Result<OwnedFd, BrokerError> {
    let place = judge.make("log", path)?;
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    open_file(place.by(), flags, Mode::from_raw_mode(0o640))
        .map_err(|errno| BrokerError::open("write", "log", path, errno.into()))
}

pub(crate) fn directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(open_file(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(settle: impl FnOnce(u32) -> io::Result<()>) -> (io::Result<sys::Child>, bool) {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join("trace");
        let command = Command {
            role: Role::Domain,
            program: Path::new("/bin/sh"),
            arguments: &["-c".to_owned(), format!("echo $$ >{}", trace.display())],
            own_pids: false,
            name: "demo",
            log: Some(log(Judge::NONE, &dir.path().join("log")).unwrap()),
            cgroup: None,
            limits: &Limits::default(),
            ledger: None,
        };
        let prepared = prepare(&command, &[]).unwrap();
        let result = sys::spawn(&prepared, |pid| {
            // Time enough for a program that does not wait.
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!trace.exists(), "the program ran before it was settled");
            settle(pid)
        });
        if let Ok(child) = &result {
            let process = WaitId::PidFd(child.pidfd.as_fd());
            waitid(process, WaitIdOptions::EXITED).unwrap();
        }
        (result, trace.exists())
    }

    #[test]
    fn the_program_runs_when_its_process_was_settled_and_not_before() {
        let mut settled = 0;
        let (child, ran) = run(|pid| {
            settled = pid;
            Ok(())
        });
        assert_eq!(child.unwrap().pid, settled);
        assert!(ran);
    }

    #[test]
    fn a_process_that_cannot_be_settled_never_runs_its_program() {
        let (mut number, refused) = (0, io::Error::other("no scope"));
        let (result, ran) = run(|pid| {
            number = pid;
            Err(refused)
        });
        assert_eq!(result.err().unwrap().to_string(), "no scope");
        assert!(!ran);
        assert!(!Path::new(&format!("/proc/{number}")).exists(), "it was not reaped");
    }
}
