#![allow(
    unsafe_code,
    reason = "system calls that no safe wrapper offers: clone3, OFD locks, tap ioctls"
)]
//! The system calls behind the broker's acts.

use std::ffi::{CString, c_char, c_int, c_ulong, c_void};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

// ---- locks of open files -------------------------------------------------------------------

fn range(kind: c_int, start: i64, len: i64) -> libc::flock {
    // SAFETY: flock is integers alone, for which all zeroes is a value.
    let mut lock: libc::flock = unsafe { mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = start;
    lock.l_len = len;
    lock
}

fn lock_call(file: BorrowedFd<'_>, command: c_int, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and these commands read and write one flock.
    check(unsafe { libc::fcntl(file.as_raw_fd(), command, ptr::from_mut(lock)) }).map(drop)
}

pub(crate) fn ofd_read_lock(file: BorrowedFd<'_>, byte: i64) -> io::Result<()> {
    lock_call(file, libc::F_OFD_SETLK, &mut range(libc::F_RDLCK, byte, 1))
}

/// Whether another open file holds any lock on this byte.
pub(crate) fn ofd_locked_by_other(file: BorrowedFd<'_>, byte: i64) -> io::Result<bool> {
    let mut lock = range(libc::F_WRLCK, byte, 1);
    lock_call(file, libc::F_OFD_GETLK, &mut lock)?;
    Ok(c_int::from(lock.l_type) != libc::F_UNLCK)
}

/// Lock the whole file; false if another has it.
pub(crate) fn ofd_try_write_lock(file: BorrowedFd<'_>) -> io::Result<bool> {
    match lock_call(file, libc::F_OFD_SETLK, &mut range(libc::F_WRLCK, 0, 0)) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

// ---- network interfaces --------------------------------------------------------------------

const SIOCBRADDIF: c_ulong = 0x89a2;
const TUNSETIFF: c_ulong = 0x4004_54ca;
const TUNGETIFF: c_ulong = 0x8004_54d2;
const TUNSETVNETHDRSZ: c_ulong = 0x4004_54d8;

/// A name the kernel takes for an interface (or for one to be, with `%d`), zero-padded.
pub(crate) struct InterfaceName([c_char; libc::IFNAMSIZ]);

impl InterfaceName {
    pub(crate) fn new(name: &str) -> Option<Self> {
        let valid = (1..libc::IFNAMSIZ).contains(&name.len())
            && name != "."
            && name != ".."
            && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
        let mut padded = [0; libc::IFNAMSIZ];
        for (to, from) in padded.iter_mut().zip(name.bytes()) {
            *to = from as c_char;
        }
        valid.then_some(Self(padded))
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: ifreq is a name and a union of integers, addresses and a pointer, all of which
        // may be zero.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        request.ifr_name = self.0;
        request
    }
}

fn name_of(request: &libc::ifreq) -> String {
    let bytes = request.ifr_name.iter().map(|c| *c as u8).take_while(|b| *b != 0);
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}

fn interface_call(
    file: BorrowedFd<'_>,
    command: c_ulong,
    request: &mut libc::ifreq,
) -> io::Result<()> {
    // SAFETY: every command passed here reads and writes at most one ifreq.
    check(unsafe { libc::ioctl(file.as_raw_fd(), command as _, ptr::from_mut(request)) }).map(drop)
}

/// Make the file a queue of this tap; returns the name the tap has.
pub(crate) fn tun_attach(
    file: BorrowedFd<'_>,
    name: &InterfaceName,
    flags: c_int,
) -> io::Result<String> {
    let mut request = name.request();
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    interface_call(file, TUNSETIFF, &mut request)?;
    Ok(name_of(&request))
}

/// The interface that an open queue belongs to.
pub(crate) fn tun_name(file: BorrowedFd<'_>) -> io::Result<String> {
    // SAFETY: ifreq is integers, and a union of them and pointers that the kernel does not read here.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    interface_call(file, TUNGETIFF, &mut request)?;
    Ok(name_of(&request))
}

pub(crate) fn tun_set_header(file: BorrowedFd<'_>, bytes: c_int) -> io::Result<()> {
    // SAFETY: the command reads one int.
    check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ as _, &raw const bytes) })
        .map(drop)
}

/// Reserve a guest's vsock address.
pub(crate) fn vsock_set_cid(file: BorrowedFd<'_>, cid: u32) -> io::Result<()> {
    const VHOST_VSOCK_SET_GUEST_CID: u32 = 0x4008_af60;
    let cid = u64::from(cid);
    // SAFETY: the command reads one u64.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), VHOST_VSOCK_SET_GUEST_CID as _, &raw const cid) };
    check(result).map(drop)
}

pub(crate) fn interface_set_mac(
    socket: BorrowedFd<'_>,
    name: &InterfaceName,
    mac: [u8; 6],
) -> io::Result<()> {
    let mut request = name.request();
    // SAFETY: sockaddr is integers alone.
    let mut address: libc::sockaddr = unsafe { mem::zeroed() };
    address.sa_family = libc::ARPHRD_ETHER;
    for (to, from) in address.sa_data.iter_mut().zip(mac) {
        *to = from as c_char;
    }
    request.ifr_ifru.ifru_hwaddr = address;
    interface_call(socket, libc::SIOCSIFHWADDR, &mut request)
}

pub(crate) fn interface_set_mtu(
    socket: BorrowedFd<'_>,
    name: &InterfaceName,
    mtu: u16,
) -> io::Result<()> {
    let mut request = name.request();
    request.ifr_ifru.ifru_mtu = c_int::from(mtu);
    interface_call(socket, libc::SIOCSIFMTU, &mut request)
}

pub(crate) fn interface_up(socket: BorrowedFd<'_>, name: &InterfaceName) -> io::Result<()> {
    let mut request = name.request();
    interface_call(socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: the kernel has just filled in the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    interface_call(socket, libc::SIOCSIFFLAGS, &mut request)
}

pub(crate) fn bridge_add(
    socket: BorrowedFd<'_>,
    bridge: &InterfaceName,
    port: &InterfaceName,
) -> io::Result<()> {
    let mut index = port.request();
    interface_call(socket, libc::SIOCGIFINDEX, &mut index)?;
    let mut request = bridge.request();
    // SAFETY: the kernel has just filled in the index.
    request.ifr_ifru.ifru_ifindex = unsafe { index.ifr_ifru.ifru_ifindex };
    interface_call(socket, SIOCBRADDIF, &mut request)
}

// ---- processes -----------------------------------------------------------------------------

/// A process to be, complete: after the clone nothing is allocated, locked or dropped.
pub(crate) struct Exec {
    pub program: CString,
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    /// Open files and the numbers they get. No source has the number of a target.
    pub table: Vec<(OwnedFd, c_int)>,
    /// Descriptors from here up are not for the new program.
    pub first_closed: c_int,
    pub pids: Pids,
    /// Born in this cgroup.
    pub cgroup: Option<OwnedFd>,
    /// Killed when the thread that spawned it ends.
    pub end_with_parent: bool,
}

/// Which processes it sees and can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pids {
    Ours,
    /// It is the first of a namespace, which takes privilege.
    Own,
    /// The same in a user namespace, which gives that privilege. Its user there is for `settle` to say.
    OwnByUser,
}

pub(crate) struct Child {
    pub pid: u32,
    pub pidfd: OwnedFd,
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Start a process in a session of its own, and return when its program runs or failed to. Between
/// the process and its program `settle` gets the process's number.
pub(crate) fn spawn(exec: &Exec, settle: impl FnOnce(u32) -> io::Result<()>) -> io::Result<Child> {
    // Above the targets, like every source.
    let pipe = || -> io::Result<(OwnedFd, OwnedFd)> {
        let (from, to) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let above = |file: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(file, exec.first_closed);
        Ok((above(&from)?, above(&to)?))
    };
    // The end of a pipe is seen when its last copy closes.
    let (answer, report) = pipe()?;
    let (go, release) = pipe()?;
    let arguments = pointers(&exec.arguments);
    let environment = pointers(&exec.environment);
    let mut table: Vec<(c_int, c_int)> = Vec::with_capacity(exec.table.len());
    table.extend(exec.table.iter().map(|(file, target)| (file.as_raw_fd(), *target)));
    let plan = Plan {
        program: exec.program.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        table: &table,
        first_closed: exec.first_closed,
        end_with_parent: exec.end_with_parent,
        report: report.as_raw_fd(),
        go: go.as_raw_fd(),
        release: release.as_raw_fd(),
    };

    let mut pidfd: c_int = -1;
    // SAFETY: clone_args is integers alone.
    let mut clone: libc::clone_args = unsafe { mem::zeroed() };
    clone.flags = libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    clone.pidfd = ptr::from_mut(&mut pidfd) as u64;
    clone.exit_signal = libc::SIGCHLD as u64;
    clone.flags |= match exec.pids {
        Pids::Ours => 0,
        Pids::Own => libc::CLONE_NEWPID as u64,
        Pids::OwnByUser => (libc::CLONE_NEWPID | libc::CLONE_NEWUSER) as u64,
    };
    if let Some(cgroup) = &exec.cgroup {
        clone.flags |= CLONE_INTO_CGROUP;
        clone.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has a copy of this address space and runs on a copy of this
    // stack, like after fork. Other threads do not exist in it, and a lock one of them held stays
    // locked there; so the child makes plain system calls only (see `Plan::run`) until it is another
    // program or gone, and never returns into this function's caller.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut clone), size_of_val(&clone)) };
    if pid == 0 {
        // SAFETY: this is the child, alone in its address space; the pointers lead to the copies of
        // what `exec`, `arguments` and `environment` own, which nobody frees here.
        unsafe { plan.run() }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made this descriptor for us and nobody else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    drop((report, go));
    let pid = u32::try_from(pid).map_err(io::Error::other)?;
    let settled = settle(pid);
    // If it is gone, the answer says why. It is not left to find its pipe closed, which another
    // child, about to be a program, may hold open for a while.
    let _ = match settled {
        Ok(()) => rustix::io::write(&release, &[0]).map(drop),
        Err(_) => rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL),
    };
    drop(release);
    let mut errno = [0; 4];
    let answered = rustix::io::retry_on_intr(|| rustix::io::read(&answer, &mut errno))?;
    if answered == 0 && settled.is_ok() {
        // Closed by exec: the program runs.
        return Ok(Child { pid, pidfd });
    }
    let id = rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd));
    let _ = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED);
    match settled {
        Err(error) if answered == 0 => Err(error),
        _ => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// What the child does, as numbers and pointers.
struct Plan<'a> {
    program: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    table: &'a [(c_int, c_int)],
    first_closed: c_int,
    end_with_parent: bool,
    report: c_int,
    /// A byte comes here when the program may run; an end, when it may not.
    go: c_int,
    /// The other end of it.
    release: c_int,
}

impl Plan<'_> {
    /// Become the program, or report why not.
    ///
    /// # Safety
    /// Only in a child that shares no memory with its parent, with pointers that are valid there.
    unsafe fn run(&self) -> ! {
        // SAFETY: the caller's promise is ours to `steps`. `write` and `_exit` are system calls;
        // `_exit` runs no handler.
        unsafe {
            let errno = self.steps();
            libc::write(self.report, (&raw const errno).cast::<c_void>(), 4);
            libc::_exit(127)
        }
    }

    /// Returns the errno of the step that failed.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn steps(&self) -> c_int {
        // SAFETY: each call here is async-signal-safe: a bare system call, or `sigemptyset` on a
        // local. The slice is iterated without allocating, and no step can panic. `__errno_location`
        // is thread-local memory of this very thread.
        unsafe {
            let mut signals: libc::sigset_t = mem::zeroed();
            libc::sigemptyset(&raw mut signals);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const signals, ptr::null_mut());
            if libc::setsid() < 0 || libc::chdir(c"/".as_ptr()) < 0 {
                return *libc::__errno_location();
            }
            if self.end_with_parent
                && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong) < 0
            {
                return *libc::__errno_location();
            }
            // Our copy must not keep the pipe open, should the parent die.
            libc::close(self.release);
            let mut byte = 0_u8;
            loop {
                match libc::read(self.go, (&raw mut byte).cast::<c_void>(), 1) {
                    1 => break,
                    -1 if *libc::__errno_location() == libc::EINTR => {}
                    _ => return libc::ECANCELED,
                }
            }
            for &(source, target) in self.table {
                // The copy, unlike its source, stays open over exec.
                if libc::dup2(source, target) < 0 {
                    return *libc::__errno_location();
                }
            }
            // Ours are all close-on-exec; this holds for a library's slip too.
            let cloexec = libc::CLOSE_RANGE_CLOEXEC;
            libc::syscall(libc::SYS_close_range, self.first_closed, c_int::MAX, cloexec);
            libc::execve(self.program, self.arguments, self.environment);
            *libc::__errno_location()
        }
    }
}

// ---- sockets of networks -------------------------------------------------------------------

fn set_option<T>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the value lives for the call, and its length is that of its type.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(value).cast(), length)
    };
    check(result).map(drop)
}

/// Take and send packets of one interface alone.
pub(crate) fn bind_to_device(socket: BorrowedFd<'_>, interface: &str) -> io::Result<()> {
    let mut name = [0u8; libc::IFNAMSIZ];
    for (byte, from) in name.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.bytes()) {
        *byte = from;
    }
    set_option(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &name)
}

/// Room for what is sent at once, past the host's limit.
pub(crate) fn send_buffer(socket: &impl std::os::fd::AsFd, bytes: usize) -> io::Result<()> {
    let bytes = c_int::try_from(bytes).map_err(io::Error::other)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes)
}

/// A raw ICMPv6 socket hears nothing but router solicitations (RFC 3542 §3.2).
pub(crate) fn only_router_solicitations(socket: BorrowedFd<'_>) -> io::Result<()> {
    const ICMP6_FILTER: c_int = 1;
    const SOLICITATION: usize = 133;
    // A bit for each type; those that are set are not heard.
    let mut filter = [u32::MAX; 8];
    filter[SOLICITATION / 32] &= !(1 << (SOLICITATION % 32));
    set_option(socket, libc::IPPROTO_ICMPV6, ICMP6_FILTER, &filter)
}

/// Where packets to groups leave.
pub(crate) fn multicast_interface(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let index = c_int::try_from(index).map_err(io::Error::other)?;
    set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, &index)
}

pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(io::Error::other)?;
    // SAFETY: the name is a string with its end.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

// ---- the user of this thread's files -------------------------------------------------------

/// This thread, and no other, acts on files as somebody else while this lives (setfsuid(2)), without the
/// capabilities that pass over permissions.
#[derive(Debug)]
pub(crate) struct FileUser {
    /// Back on this thread alone.
    _here: std::marker::PhantomData<*const ()>,
}

fn set_file_user(uid: u32, gid: u32) -> bool {
    // SAFETY: both take a number, and change nothing but the credentials of this thread. They return what
    // was, and say in no other way whether they did anything: asked with a number that is none, they only
    // tell what is.
    unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        let (group, user) = (libc::setfsgid(u32::MAX), libc::setfsuid(u32::MAX));
        group.cast_unsigned() == gid && user.cast_unsigned() == uid
    }
}

impl FileUser {
    pub(crate) fn become_user(uid: u32, gid: u32) -> io::Result<Self> {
        let user = Self { _here: std::marker::PhantomData };
        if set_file_user(uid, gid) { Ok(user) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl Drop for FileUser {
    fn drop(&mut self) {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        set_file_user(uid.as_raw(), gid.as_raw());
    }
}
