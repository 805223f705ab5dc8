//! System calls of the process's own: descriptors that were handed in, signals, thread clocks.
#![allow(unsafe_code, reason = "raw descriptors, signalfd and prctl have no safe form")]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::time::Duration;

/// Own a descriptor that the process was started with, and keep it from any child.
///
/// To be called once for each number, before the process opens anything itself.
pub(super) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `fcntl` without pointers; a number that is not open makes it fail.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open (just checked), and the caller adopts each number once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Signals that concern the domain, as a descriptor; threads started later inherit the blocked mask.
pub(super) fn signals() -> io::Result<File> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is valid storage for a signal set, and sigemptyset initialises it.
    let fd = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPWR);
        if libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// What came, from the descriptor of [`signals`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM, SIGINT: end.
    End,
    /// SIGPWR: the host is about to power off.
    PowerFailure,
}

pub(super) fn next_signal(signals: BorrowedFd<'_>) -> Option<Signal> {
    let mut info = [0; size_of::<libc::signalfd_siginfo>()];
    // It begins with the signal's number.
    match rustix::io::read(signals, &mut info) {
        Ok(length) if length == info.len() => {
            let number = i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
            Some(if number == libc::SIGPWR { Signal::PowerFailure } else { Signal::End })
        }
        _ => None,
    }
}

/// Writing to a client that went away is an error code, not a death; nor does a closing terminal
/// or a session's end concern a guest.
pub(super) fn ignore_signals() {
    for signal in [libc::SIGPIPE, libc::SIGHUP] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// One heap for all threads. With more, glibc opens files at odd moments (for the number of processors
/// when two threads allocate at once, for the overcommit policy when it trims one), and the filters
/// forbid it. It is also smaller, and no thread allocates often enough to notice.
pub(super) fn use_one_heap() {
    // SAFETY: called before other threads exist; it only stores the number.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// No core dumps or ptrace by others of the same user, and no new privileges.
pub(super) fn harden() -> io::Result<()> {
    // SAFETY: `prctl` with plain numbers.
    let failed = unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Give back the code that only the start needed. What is still used comes back from the page
/// cache; the rest, most of the binary, is no longer this guest's memory.
pub(super) fn forget_startup_code() {
    unsafe extern "C" {
        // The linker's names for the first byte of the program and the end of its code. Data that
        // the program changes, relocations included, lies behind.
        static __executable_start: u8;
        static etext: u8;
    }
    let start = (&raw const __executable_start) as usize & !0xfff;
    let end = (&raw const etext) as usize & !0xfff;
    // SAFETY: these pages are constants and code, mapped from the binary and never written, so
    // dropping them changes no byte: the next access maps the same page of the file again.
    unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
}

/// The number of this process where the host's processes are counted, as long as the host's `/proc` is
/// there: in a namespace of its own it is 1.
pub(super) fn outer_pid() -> u32 {
    let link = std::fs::read_link("/proc/self").ok();
    let number = link.as_deref().and_then(|path| path.to_str()?.parse().ok());
    number.unwrap_or_else(std::process::id)
}

static STATISTICS: OnceLock<File> = OnceLock::new();

/// Open what [`resident`] reads, while files may still be opened.
pub(super) fn open_statistics() {
    if let Ok(file) = File::open("/proc/self/statm") {
        let _ = STATISTICS.set(file);
    }
}

/// Bytes of this process that are in memory; zero when the host does not say.
pub(crate) fn resident() -> u64 {
    let mut text = [0; 128];
    let read = STATISTICS.get().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
    let text = std::str::from_utf8(&text[..read]).unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    pages * 4096
}

/// Time that a thread of this process has spent on a processor.
pub(crate) fn thread_time(thread: i32) -> Duration {
    // The kernel's encoding of a thread's scheduler clock (linux/posix-timers.h, MAKE_THREAD_CPUCLOCK).
    let clock = (!thread << 3) | 0b110;
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `time` is valid storage; all zeros is a valid timespec if the call fails.
    let time = unsafe {
        libc::clock_gettime(clock, time.as_mut_ptr());
        time.assume_init()
    };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
