//! The seccomp filter: what is not listed ends the process at once. Its daemon starts another, which
//! knows the leases that this one wrote down.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("the seccomp filter cannot be built")]
    Build(#[from] BackendError),
    #[error(
        "the seccomp filter cannot be installed; the host's kernel needs CONFIG_SECCOMP_FILTER"
    )]
    Install(#[from] seccompiler::Error),
}

/// Confine the calling thread, which is the only one, for good.
pub(crate) fn enter_filter() -> Result<(), FilterError> {
    let (refuse, allow) = (SeccompAction::KillProcess, SeccompAction::Allow);
    let filter = SeccompFilter::new(rules()?, refuse, allow, TargetArch::x86_64)?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

/// With any arguments.
const PLAIN: &[i64] = &[
    // Waiting, the time, memory, the end.
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    // The sockets it came with, clients of the control socket and of DNS over TCP, upstreams.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_close,
    // A lease in its record.
    libc::SYS_pwrite64,
];

fn rules() -> Result<Rules, BackendError> {
    let mut rules: Rules = PLAIN.iter().map(|call| (*call, Vec::new())).collect();
    rules.extend([
        (libc::SYS_socket, upstream_sockets()?),
        // Whether an upstream was reached.
        (
            libc::SYS_getsockopt,
            vec![rule(&[(1, Op::Eq, int(libc::SOL_SOCKET)), (2, Op::Eq, int(libc::SO_ERROR))])?],
        ),
        (libc::SYS_ioctl, vec![rule(&[(1, Op::Eq, libc::FIONBIO)])?]),
    ]);
    // Whether a socket waits.
    let mut file_requests = vec![rule(&[(1, Op::Eq, int(libc::F_GETFL))])?];
    if cfg!(debug_assertions) {
        // The standard library of a debug build asks whether a descriptor is open when it closes it.
        file_requests.push(rule(&[(1, Op::Eq, int(libc::F_GETFD))])?);
    }
    rules.insert(libc::SYS_fcntl, file_requests);
    // Memory for data: never executable, never a file's.
    let executable = int(libc::PROT_EXEC);
    let anonymous = int(libc::MAP_ANONYMOUS);
    let map = rule(&[(2, Op::MaskedEq(executable), 0), (3, Op::MaskedEq(anonymous), anonymous)])?;
    rules.insert(libc::SYS_mmap, vec![map]);
    rules.insert(libc::SYS_mprotect, vec![rule(&[(2, Op::MaskedEq(executable), 0)])?]);
    rules.insert(libc::SYS_madvise, vec![rule(&[(2, Op::Eq, int(libc::MADV_DONTNEED))])?]);
    Ok(rules)
}

/// UDP and TCP, to ask upstreams: no raw sockets, none of other programs of the host.
fn upstream_sockets() -> Result<Vec<SeccompRule>, BackendError> {
    let behaviour = int(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    let kind_mask = u64::from(u32::MAX) & !behaviour;
    let mut rules = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_DGRAM, libc::SOCK_STREAM] {
            rules.push(rule(&[
                (0, Op::Eq, int(family)),
                (1, Op::MaskedEq(kind_mask), int(kind)),
                (2, Op::Eq, 0),
            ])?);
        }
    }
    Ok(rules)
}

/// As the kernel compares it: the 32 bits of the argument.
fn int(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

fn rule(conditions: &[(u8, Op, u64)]) -> Result<SeccompRule, BackendError> {
    let condition = |(argument, op, value): &(u8, Op, u64)| {
        SeccompCondition::new(*argument, Len::Dword, op.clone(), *value)
    };
    SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};
    use std::{env, fs, net, thread};

    use rustix::net::{AddressFamily, SocketType, ipproto, socket};

    use super::*;

    #[test]
    fn the_list_is_short_and_holds_nothing_that_opens_or_starts_anything() {
        let rules = rules().unwrap();
        assert!(rules.len() <= 36, "{}", rules.len());
        for forbidden in [
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_fork,
            libc::SYS_kill,
            libc::SYS_setsockopt,
            libc::SYS_rt_sigaction,
        ] {
            assert!(!rules.contains_key(&forbidden), "{forbidden}");
        }
    }

    /// What a confined process does, by name, and whether it lives on.
    const ACTS: [(&str, bool, fn()); 7] = [
        ("ask by UDP", true, || drop(net::UdpSocket::bind("127.0.0.1:0"))),
        ("ask by TCP", true, || drop(net::TcpStream::connect("[::1]:9"))),
        ("make a raw socket", false, || {
            let _ = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP));
        }),
        ("reach a program of the host", false, || {
            let _ = std::os::unix::net::UnixStream::connect("/nowhere");
        }),
        ("open a file", false, || drop(fs::File::open("/dev/null"))),
        ("start a program", false, || drop(Command::new("/bin/true").status())),
        ("start a thread", false, || drop(thread::spawn(|| ()).join())),
    ];
    const ACT: &str = "MANOR_TEST_ACT";

    /// Not a test: the confined child of [`what_is_not_listed_ends_the_process`].
    #[test]
    fn confined_child() {
        let Ok(name) = env::var(ACT) else { return };
        let (_, _, act) = ACTS.into_iter().find(|(known, _, _)| *known == name).unwrap();
        enter_filter().unwrap();
        act();
    }

    #[test]
    fn what_is_not_listed_ends_the_process() {
        for (act, allowed, _) in ACTS {
            let output = Command::new(env::current_exe().unwrap())
                .args(["--exact", "confine::filter::tests::confined_child", "--nocapture"])
                .env(ACT, act)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let died = output.status.signal() == Some(libc::SIGSYS);
            assert_eq!(died, !allowed, "{act}: {output:?}");
            assert!(died || output.status.success(), "{act}: {output:?}");
        }
    }
}
