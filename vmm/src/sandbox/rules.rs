//! The allow-lists.

use seccompiler::{
    BackendError, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompRule,
};

use super::ioctls;

/// Kinds of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The control socket and everything that concerns the machine as a whole.
    Main,
    Vcpu,
    /// Disks, networks, consoles.
    Io,
    /// Screens: VNC viewers, and what they type.
    Screen,
    /// Connections between ports of the guest and programs of the host.
    Vsock,
    /// The servers of network disks.
    Remote,
    /// Disks as they were at one moment, for clients of NBD or into images.
    Backup,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Main, Self::Vcpu, Self::Io, Self::Screen, Self::Vsock, Self::Remote, Self::Backup];
}

/// A system call with the argument patterns that pass; none: any arguments.
pub(super) type Rules = Vec<(i64, Vec<SeccompRule>)>;

/// What every thread does: wait for one another, allocate, tell the time, end.
const COMMON: &[i64] = &[
    libc::SYS_futex,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_munmap,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
];

/// Consoles write where their output goes, from the vCPU that wrote a byte; flash is in its file
/// before the guest sees that it is programmed.
const VCPU: &[i64] = &[libc::SYS_writev, libc::SYS_ppoll, libc::SYS_poll, libc::SYS_pwrite64];

const IO: &[i64] = &[
    libc::SYS_epoll_wait,
    libc::SYS_epoll_ctl,
    libc::SYS_io_uring_enter,
    libc::SYS_preadv,
    libc::SYS_pwritev2,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    // The end of an image's file, and where it has holes.
    libc::SYS_lseek,
    // Buffers of image formats that grow.
    libc::SYS_mremap,
    libc::SYS_timerfd_settime,
    // A console's log that is full is emptied into an older one.
    libc::SYS_ftruncate,
    // Clients of a channel that listens.
    libc::SYS_accept4,
];

/// Viewers are the only peers on the network that a VMM talks to itself.
const SCREEN: &[i64] = &[
    libc::SYS_epoll_wait,
    libc::SYS_epoll_ctl,
    libc::SYS_timerfd_settime,
    libc::SYS_accept4,
    // Pictures grow while they are encoded.
    libc::SYS_mremap,
];

/// It makes sockets only to give one end of them away.
const VSOCK: &[i64] = &[
    libc::SYS_epoll_wait,
    libc::SYS_epoll_ctl,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
];

/// Its sockets are made by others.
const REMOTE: &[i64] = &[
    libc::SYS_poll,
    libc::SYS_ppoll,
    // Several records of TLS.
    libc::SYS_writev,
    // Data of large requests.
    libc::SYS_mremap,
];

/// Its listener came by itself, as did the files.
const BACKUP: &[i64] = &[
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_accept4,
    libc::SYS_preadv,
    libc::SYS_pwritev2,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_mremap,
];

const MAIN: &[i64] = &[
    // Interrupts and kicks of a device that comes while the guest runs, and what its files are.
    libc::SYS_eventfd2,
    libc::SYS_fstat,
    // The limits of its disk.
    libc::SYS_timerfd_create,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_recvmsg,
    libc::SYS_writev,
    libc::SYS_accept4,
    libc::SYS_ppoll,
    libc::SYS_preadv,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_statx,
    libc::SYS_ftruncate,
    // An image's tables, when it is closed.
    libc::SYS_pwritev2,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    libc::SYS_mremap,
    libc::SYS_getpid,
    libc::SYS_sendto,
    libc::SYS_fsync,
    libc::SYS_exit_group,
    // Waits with a time limit, when the process was stopped and continued meanwhile.
    libc::SYS_restart_syscall,
];

pub(super) fn of(kind: Kind) -> Result<Rules, BackendError> {
    let plain: &[i64] = match kind {
        Kind::Main => MAIN,
        Kind::Vcpu => VCPU,
        Kind::Io => IO,
        Kind::Screen => SCREEN,
        Kind::Vsock => VSOCK,
        Kind::Remote => REMOTE,
        Kind::Backup => BACKUP,
    };
    let mut rules: Rules = COMMON.iter().chain(plain).map(|call| (*call, Vec::new())).collect();
    rules.extend(memory()?);
    let mut requests = match kind {
        Kind::Main => {
            let plug =
                [ioctls::TAP, ioctls::NEW_TAP, ioctls::NEW_VHOST, ioctls::BLOCK_SIZES].concat();
            [ioctls::DEVICES, ioctls::CHIPS, &plug].concat()
        }
        Kind::Vcpu => [ioctls::DEVICES, ioctls::TAP, ioctls::VCPU].concat(),
        Kind::Io => [ioctls::DEVICES, ioctls::TAP, ioctls::VHOST].concat(),
        Kind::Screen | Kind::Vsock => ioctls::INTERRUPTS.to_vec(),
        Kind::Remote | Kind::Backup => Vec::new(),
    };
    if matches!(kind, Kind::Main | Kind::Screen | Kind::Backup) {
        requests.push(libc::FIONBIO as u32);
    }
    // Without patterns any would pass.
    if !requests.is_empty() {
        let request = |number: u32| rule(&[(1, Op::Eq, number.into())]);
        let requests: Result<_, _> = requests.into_iter().map(request).collect();
        rules.push((libc::SYS_ioctl, requests?));
    }
    let mut file_requests = Vec::new();
    if cfg!(debug_assertions) {
        // The standard library of a debug build asks whether a descriptor is open when it closes it.
        file_requests.push(libc::F_GETFD);
    }
    if kind == Kind::Main {
        // Direct I/O, for an image that comes while the guest runs; and who writes to which image.
        file_requests.extend([libc::F_GETFL, libc::F_SETFL, libc::F_OFD_SETLK]);
    }
    if !file_requests.is_empty() {
        let request = |request: i32| rule(&[(1, Op::Eq, request as u64)]);
        let requests: Result<_, _> = file_requests.into_iter().map(request).collect();
        rules.push((libc::SYS_fcntl, requests?));
    }
    if kind == Kind::Vsock {
        let local = rule(&[(0, Op::Eq, libc::AF_UNIX as u64)])?;
        rules.push((libc::SYS_socketpair, vec![local]));
    }
    if kind == Kind::Main {
        // Kicking our own vCPU threads, and nobody else.
        let own = rule(&[(0, Op::Eq, std::process::id().into())])?;
        rules.push((libc::SYS_tgkill, vec![own]));
    }
    Ok(rules)
}

/// Memory for data: never executable, never a file's, and its own alone, so that it is counted
/// (`isolation/limits.rs`).
fn memory() -> Result<Rules, BackendError> {
    let executable = libc::PROT_EXEC as u64;
    let data_only = |argument| rule(&[(argument, Op::MaskedEq(executable), 0)]);
    let (kind, own) =
        (libc::MAP_ANONYMOUS | libc::MAP_TYPE, libc::MAP_ANONYMOUS | libc::MAP_PRIVATE);
    let own = (3, Op::MaskedEq(kind as u64), own as u64);
    let map = rule(&[(2, Op::MaskedEq(executable), 0), own])?;
    let advice = |advice: i32| rule(&[(2, Op::Eq, advice as u64)]);
    let advices =
        [libc::MADV_DONTNEED, libc::MADV_REMOVE, libc::MADV_DONTDUMP, libc::MADV_HUGEPAGE];
    Ok(vec![
        (libc::SYS_mmap, vec![map]),
        (libc::SYS_mprotect, vec![data_only(2)?]),
        (libc::SYS_madvise, advices.into_iter().map(advice).collect::<Result<_, _>>()?),
    ])
}

fn rule(conditions: &[(u8, Op, u64)]) -> Result<SeccompRule, BackendError> {
    let condition = |(argument, op, value): &(u8, Op, u64)| {
        SeccompCondition::new(*argument, Len::Dword, op.clone(), *value)
    };
    SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_short_and_hold_nothing_that_opens_or_starts_anything() {
        for (kind, most) in [
            (Kind::Main, 45),
            (Kind::Vcpu, 24),
            (Kind::Io, 31),
            (Kind::Screen, 24),
            (Kind::Vsock, 26),
            (Kind::Remote, 20),
            (Kind::Backup, 27),
        ] {
            let mut calls: Vec<i64> = of(kind).unwrap().into_iter().map(|(call, _)| call).collect();
            // A few of its requests, one of them in debug builds, which this test runs as.
            calls.retain(|call| *call != libc::SYS_fcntl);
            assert!(calls.len() <= most, "{kind:?}: {}", calls.len());
            for forbidden in [
                libc::SYS_open,
                libc::SYS_openat,
                libc::SYS_execve,
                libc::SYS_execveat,
                libc::SYS_socket,
                libc::SYS_connect,
                libc::SYS_ptrace,
                libc::SYS_clone,
                libc::SYS_clone3,
                libc::SYS_fork,
                libc::SYS_kill,
                libc::SYS_rt_sigaction,
            ] {
                assert!(!calls.contains(&forbidden), "{kind:?}: {forbidden}");
            }
        }
    }
}
