//! passt(1): the network of an interface of type='user', a process of its own that connects the guest to
//! the world as any program of the host is connected. It gets one end of a pair of sockets and ends
//! with it, so neither the daemon's death nor the guest's leaves anything to clean up.

use std::ffi::CString;
use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde::{Deserialize, Serialize};

use crate::cgroup::limits::Limits;
use crate::network::Protocol;
use crate::spawn::{c_string, directory, null};
use crate::sys::Pids;
use crate::{BrokerError, scope, sys};

#[cfg(test)]
mod tests;

/// Where distributions put it.
pub(crate) const PROGRAMS: [&str; 3] = ["/usr/bin/passt", "/usr/local/bin/passt", "/bin/passt"];
/// It looks at the host's routes and binds ports, both at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// Its end of the pair.
const SOCKET: i32 = 3;
/// The first number that is no target.
const ABOVE: i32 = SOCKET + 1;
const LONGEST_REPORT: u64 = 16 << 10;

/// What it is told, as libvirt tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passt {
    /// Of the host, whose addresses and routes are the guest's; none: that of the default route.
    pub interface: Option<String>,
    /// Those that the guest is given, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Of the IPv4 address.
    pub prefix: Option<u8>,
    pub mtu: Option<u16>,
    pub forwards: Vec<PasstForward>,
    pub log: Option<PathBuf>,
    /// User and group that it becomes, where it is started as root; none: its own choice, nobody. With a policy
    /// the broker says who.
    pub user: Option<(u32, u32)>,
}

/// Ports of the host that lead to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasstForward {
    pub protocol: Protocol,
    pub address: Option<IpAddr>,
    pub interface: Option<String>,
    /// None: all.
    pub ranges: Vec<PasstRange>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasstRange {
    pub first: u16,
    pub last: u16,
    /// The guest's port for the first; none: the same.
    pub to: Option<u16>,
    /// These are left out.
    pub excluded: bool,
}

/// Which of these there is.
pub(crate) fn find(programs: &[PathBuf]) -> Result<&Path, BrokerError> {
    let found = programs.iter().find(|program| program.exists());
    found
        .map(PathBuf::as_path)
        .ok_or(BrokerError::NoProgram { program: "passt".into(), package: "passt".into() })
}

/// Start it for interface `name` of a guest, in that guest's `cgroup`, or in a scope beside the guest's.
/// Our end of its pair of sockets comes back when all that was asked for is in force.
pub(crate) fn start(
    program: &Path,
    name: &str,
    passt: &Passt,
    cgroup: Option<&Path>,
) -> Result<OwnedFd, BrokerError> {
    let failed = |source| BrokerError::Host { act: format!("start passt for {name}"), source };
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| failed(errno.into()))?;
    let (report, errors) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
    let exec = prepare(program, passt, [theirs.as_fd(), errors.as_fd()], cgroup).map_err(failed)?;
    let child = sys::spawn(&exec, |pid| settle(pid, name, cgroup)).map_err(failed)?;
    drop((exec, theirs, errors));
    // It goes into the background when it is ready.
    let ended = wait(child.pidfd.as_fd()).map_err(failed)?;
    if ended == 0 {
        return Ok(ours);
    }
    Err(BrokerError::Passt { name: name.to_owned(), reason: reason(&read(report)) })
}

fn prepare(
    program: &Path,
    passt: &Passt,
    [socket, errors]: [BorrowedFd<'_>; 2],
    cgroup: Option<&Path>,
) -> io::Result<sys::Exec> {
    let null = null()?;
    let raise = |file: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(file, ABOVE);
    let table = vec![
        (raise(null.as_fd())?, 0),
        (raise(null.as_fd())?, 1),
        (raise(errors)?, 2),
        (raise(socket)?, SOCKET),
    ];
    let arguments: io::Result<Vec<CString>> =
        arguments(passt)?.iter().map(|argument| c_string(argument.as_bytes())).collect();
    Ok(sys::Exec {
        program: c_string(program.as_os_str().as_bytes())?,
        arguments: arguments?,
        environment: Vec::new(),
        table,
        first_closed: ABOVE,
        pids: Pids::Ours,
        cgroup: match cgroup.filter(|path| scope::unit_of(path).is_none()) {
            Some(path) => Some(directory(path)?),
            None => None,
        },
        end_with_parent: false,
    })
}

fn settle(pid: u32, name: &str, cgroup: Option<&Path>) -> io::Result<()> {
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), "0")?;
    // The guest's own scope comes with its first process, which may be yet to come.
    let Some(guest) = cgroup.and_then(scope::unit_of) else { return Ok(()) };
    let unit = format!("{}-{pid}.scope", guest.trim_end_matches(".scope"));
    scope::adopt(pid, &unit, &format!("network of {name}"), &Limits::default())
}

/// libvirt's, but for the socket: there it makes one of its own.
fn arguments(passt: &Passt) -> io::Result<Vec<String>> {
    let mut words = vec!["passt".to_owned(), "--fd".to_owned(), SOCKET.to_string()];
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    if let Some((user, group)) = passt.user.filter(|_| rustix::process::geteuid().is_root()) {
        option("--runas", format!("{user}:{group}"));
    }
    if let Some(interface) = &passt.interface {
        option("--interface", interface.clone());
    }
    for address in &passt.addresses {
        option("--address", address.to_string());
    }
    if let Some(prefix) = passt.prefix {
        option("--netmask", prefix.to_string());
    }
    if let Some(mtu) = passt.mtu {
        option("--mtu", mtu.to_string());
    }
    if let Some(log) = &passt.log {
        let log = log.to_str().ok_or_else(|| io::Error::other("the log's path is not UTF-8"))?;
        option("--log-file", log.to_owned());
    }
    for forward in &passt.forwards {
        let name = match forward.protocol {
            Protocol::Tcp => "--tcp-ports",
            Protocol::Udp => "--udp-ports",
        };
        option(name, ports(forward));
    }
    Ok(words)
}

/// `192.0.2.1%eth0/2000-2010:80-90,~2005`
fn ports(forward: &PasstForward) -> String {
    let mut text = forward.address.map(|address| address.to_string()).unwrap_or_default();
    // Writing to a string does not fail.
    if let Some(interface) = &forward.interface {
        let _ = write!(text, "%{interface}");
    }
    if !text.is_empty() {
        text.push('/');
    }
    if forward.ranges.is_empty() {
        text.push_str("all");
    }
    for (index, range) in forward.ranges.iter().enumerate() {
        let PasstRange { first, last, to, excluded } = *range;
        text.push_str(if index == 0 { "" } else { "," });
        text.push_str(if excluded { "~" } else { "" });
        let _ = write!(text, "{first}");
        if last != first {
            let _ = write!(text, "-{last}");
        }
        if let Some(to) = to {
            let _ = write!(text, ":{to}");
            if last != first {
                let _ = write!(text, "-{}", u32::from(to) + u32::from(last - first));
            }
        }
    }
    text
}

/// Its exit status; of one that does not end, after it was killed, why that was.
fn wait(process: BorrowedFd<'_>) -> io::Result<i32> {
    let end = Instant::now() + PATIENCE;
    let ended = loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::from_borrowed_fd(process, PollFlags::IN)], Some(&left)) {
            Ok(count) => break count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    if !ended {
        pidfd_send_signal(process, Signal::KILL)?;
    }
    let status = waitid(WaitId::PidFd(process), WaitIdOptions::EXITED)?;
    if !ended {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "it was not ready within 10 s"));
    }
    Ok(status.and_then(|status| status.exit_status()).unwrap_or(-1))
}

/// What it said. It has ended, and nobody else writes there.
fn read(report: OwnedFd) -> String {
    let mut text = Vec::new();
    let _ = std::fs::File::from(report).take(LONGEST_REPORT).read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The last it said is why it ended; before that it tells how it set out.
fn reason(report: &str) -> String {
    let noise = |line: &str| line.is_empty() || line.ends_with("to syslog");
    let last = report.lines().map(str::trim).rfind(|line| !noise(line));
    last.unwrap_or("it does not say why").to_owned()
}
