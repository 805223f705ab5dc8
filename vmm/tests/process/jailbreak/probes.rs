//! The ways out, each as one attempt: it fails, or somebody is out.

use std::io;
use std::ptr::from_ref;
use std::sync::RwLock;

use super::sys::call;

/// What a prisoner knows of the host.
pub(super) struct Targets {
    /// Root's alone.
    pub disk: String,
    /// Everybody's.
    pub public: String,
    pub socket: String,
    /// In the abstract namespace.
    pub hidden: String,
    pub port: u16,
    /// Of who is free.
    pub pid: u32,
}

impl Targets {
    pub(super) fn to_text(&self) -> String {
        let Self { disk, public, socket, hidden, port, pid } = self;
        format!("{disk}|{public}|{socket}|{hidden}|{port}|{pid}")
    }

    pub(super) fn from_text(text: &str) -> Self {
        let parts: Vec<&str> = text.split('|').collect();
        let [disk, public, socket, hidden, port, pid] = parts[..] else { panic!("{text}") };
        let [disk, public, socket, hidden] = [disk, public, socket, hidden].map(str::to_owned);
        let (port, pid) = (port.parse().unwrap(), pid.parse().unwrap());
        Self { disk, public, socket, hidden, port, pid }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alone {
    /// The layers beneath the filters hold by themselves.
    Held,
    /// Leads nowhere by itself, but to more of the kernel: the filters' affair alone.
    Open,
}

pub(super) struct Probe {
    pub name: &'static str,
    pub alone: Alone,
    /// Whoever is root outside can do it, and it does no harm there.
    pub works_outside: bool,
    pub attempt: fn(&Targets) -> io::Result<()>,
}

const fn probe(name: &'static str, attempt: fn(&Targets) -> io::Result<()>) -> Probe {
    Probe { name, alone: Alone::Held, works_outside: false, attempt }
}

impl Probe {
    const fn works_outside(self) -> Self {
        Self { works_outside: true, ..self }
    }

    const fn open(self) -> Self {
        Self { alone: Alone::Open, ..self }
    }
}

pub(super) const PROBES: &[Probe] = &[
    probe("read the disk of another guest", |t| open(&t.disk, libc::O_RDONLY)).works_outside(),
    probe("write to the disk of another guest", |t| open(&t.disk, libc::O_RDWR)).works_outside(),
    probe("read a file that everybody may", |t| open(&t.public, libc::O_RDONLY)).works_outside(),
    probe("read the list of users", |_| open("/etc/passwd", libc::O_RDONLY)).works_outside(),
    probe("open its own memory", |_| open("/proc/self/mem", libc::O_RDWR)).works_outside(),
    probe("read the environment of init", |_| open("/proc/1/environ", libc::O_RDONLY)),
    probe("read its own mounts", |_| open("/proc/self/mountinfo", libc::O_RDONLY)).works_outside(),
    probe("open a descriptor anew", |_| open("/proc/self/fd/0", libc::O_RDONLY)).works_outside(),
    probe("look into /sys", |_| open("/sys", libc::O_RDONLY)).works_outside(),
    probe("open KVM", |_| open("/dev/kvm", libc::O_RDWR)),
    probe("open physical memory", |_| open("/dev/mem", libc::O_RDWR)),
    probe("open a new tap", |_| open("/dev/net/tun", libc::O_RDWR)),
    probe("open the terminal", |_| open("/dev/tty", libc::O_RDWR)),
    probe("make a pseudo-terminal", |_| open("/dev/ptmx", libc::O_RDWR)).works_outside(),
    probe("make a file", |_| open("/manor-was-here", libc::O_CREAT | libc::O_WRONLY)),
    probe("make a file in /tmp", |_| open("/tmp/manor-was-here", libc::O_CREAT | libc::O_WRONLY)),
    probe("make a file in shared memory", |_| {
        open("/dev/shm/manor-was-here", libc::O_CREAT | libc::O_WRONLY)
    }),
    probe("make a file without a name", |_| open("/tmp", libc::O_TMPFILE | libc::O_RDWR)),
    probe("climb out of its root", |_| open("../../../../etc/passwd", libc::O_RDONLY))
        .works_outside(),
    probe("open by openat2", |t| openat2(&t.public)).works_outside(),
    probe("list the root", |_| read_dir("/")).works_outside(),
    probe("list its own directory", |_| read_dir(".")).works_outside(),
    probe("look at a file", |t| stat(&t.public)).works_outside(),
    probe("rename a file", |t| path2(libc::SYS_rename, &t.public, "/tmp/manor-gone")),
    probe("link a file", |t| path2(libc::SYS_link, &t.public, "/tmp/manor-link")),
    probe("make a symbolic link", |_| path2(libc::SYS_symlink, "/etc/passwd", "/manor-link")),
    probe("remove a file", |t| path1(libc::SYS_unlink, &t.public, [0])),
    probe("empty a file", |t| path1(libc::SYS_truncate, &t.public, [0])),
    probe("make a directory", |_| path1(libc::SYS_mkdir, "/manor-dir", [0o777])),
    probe("change the mode of a file", |t| path1(libc::SYS_chmod, &t.public, [0o777]))
        .works_outside(),
    probe("make a device", |_| mknod("/manor-mem", libc::S_IFCHR | 0o666, 0x101)),
    probe("make a pipe with a name", |_| mknod("/manor-pipe", libc::S_IFIFO | 0o666, 0)),
    probe("open a file by its handle", |_| open_by_handle()),
    probe("go elsewhere", |_| path1(libc::SYS_chdir, "/etc", [0])),
    probe("change its root", |_| path1(libc::SYS_chroot, "/etc", [0])),
    probe("run a shell", |_| execve("/bin/sh")),
    probe("run itself", |_| execve("/proc/self/exe")),
    probe("connect to a port of the host", |t| connect_tcp(t.port)).works_outside(),
    probe("listen at a port", |_| listen_tcp()).works_outside(),
    probe("send a datagram to the host", |t| send_udp(t.port)).works_outside(),
    probe("make a raw socket", |_| socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
    probe("hear all packets", |_| socket(libc::AF_PACKET, libc::SOCK_RAW, 0x300)),
    probe("connect to a program's socket", |t| connect_unix(&t.socket)).works_outside(),
    probe("connect to a hidden socket", |t| connect_hidden(&t.hidden)).works_outside(),
    probe("connect to the host's vsock", |_| connect_vsock()),
    probe("bring an interface up", |_| interface_up()),
    probe("use Bluetooth", |_| socket(31, libc::SOCK_RAW, 1)),
    probe("ask whether its parent lives", |t| number(libc::SYS_kill, [t.pid.into(), 0]))
        .works_outside(),
    probe("end its parent", |t| kill_softly(t.pid)),
    probe("signal init", |_| number(libc::SYS_kill, [1, 0])),
    probe("signal a thread of its parent", |t| {
        number(libc::SYS_tgkill, [t.pid.into(), t.pid.into(), 0])
    })
    .works_outside(),
    probe("trace its parent", |t| {
        number(libc::SYS_ptrace, [libc::PTRACE_SEIZE.into(), t.pid.into(), 0, 0])
    }),
    probe("read its parent's memory", |t| read_memory(t.pid)),
    probe("take a descriptor of its parent", |t| steal_descriptor(t.pid)),
    probe("change its parent's limits", |t| foreign_limit(t.pid)).works_outside(),
    probe("move its parent to a processor", |t| affinity(t.pid)),
    probe("change its parent's priority", |t| number(libc::SYS_setpriority, [0, t.pid.into(), 10])),
    probe("move its parent's pages", |t| number(libc::SYS_migrate_pages, [t.pid.into(), 0, 0, 0])),
    probe("compare descriptors with its parent", |t| {
        number(libc::SYS_kcmp, [std::process::id().into(), t.pid.into(), 0, 0, 0])
    })
    .works_outside(),
    probe("become root", |_| number(libc::SYS_setresuid, [0, 0, 0])),
    probe("become the group root", |_| number(libc::SYS_setresgid, [0, 0, 0])),
    probe("have groups", |_| groups()),
    probe("have capabilities", |_| capabilities()),
    probe("be told new privileges", |_| {
        number(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 0, 0, 0, 0])
    }),
    probe("mount something", |_| mount()),
    probe("unmount its root", |_| path1(libc::SYS_umount2, "/", [2])),
    probe("make its root writable", |_| remount()),
    probe("make a mount namespace", |_| number(libc::SYS_unshare, [libc::CLONE_NEWNS as u64])),
    probe("make a network namespace", |_| number(libc::SYS_unshare, [libc::CLONE_NEWNET as u64])),
    probe("enter its parent's namespaces", |t| enter_namespaces(t.pid)),
    probe("make a device driver of a file", |_| {
        number(libc::SYS_finit_module, [0, address(c"".as_ptr()), 0])
    }),
    probe("start another kernel", |_| number(libc::SYS_kexec_load, [0, 0, 0, 0])),
    probe("load a BPF program", |_| bpf_map()),
    probe("set the clock", |_| set_clock()),
    probe("name the host", |_| host_name()),
    probe("reach I/O ports", |_| number(libc::SYS_iopl, [3])),
    probe("reach one I/O port", |_| number(libc::SYS_ioperm, [0x70, 2, 1])),
    probe("account for processes", |_| number(libc::SYS_acct, [address(c"/tmp/acct".as_ptr())])),
    probe("read the kernel's log", |_| {
        number(libc::SYS_syslog, [3, address(std::ptr::from_mut(&mut [0u8; 64])), 64])
    }),
    probe("be more urgent", |_| number(libc::SYS_setpriority, [0, 0, (-10_i64).cast_unsigned()])),
    probe("be a real-time thread", |_| realtime()),
    probe("raise its limits", |_| raise_limit()),
    probe("use swap", |_| path1(libc::SYS_swapon, "/dev/vda", [0])),
    probe("turn the host off", |_| number(libc::SYS_reboot, [0xfee1_dead, 0x2812_1969, 0, 0])),
    probe("count events of all processors", |_| perf_events()),
    probe("make a user namespace", |_| number(libc::SYS_unshare, [libc::CLONE_NEWUSER as u64]))
        .open(),
    probe("keep a key", |_| add_key()).open(),
    probe("make a ring", |_| ring()).open(),
    probe("ask the kernel to encrypt", |_| socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)).open(),
    probe("make a socket", |_| socket(libc::AF_INET, libc::SOCK_STREAM, 0)).open(),
    probe("handle page faults", |_| number(libc::SYS_userfaultfd, [1])).open(),
    probe("fork", |_| fork()).open(),
    probe("be traced", |_| number(libc::SYS_ptrace, [libc::PTRACE_TRACEME.into(), 0, 0, 0])).open(),
    probe("be dumped", |_| number(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 1, 0, 0, 0]))
        .open(),
    probe("change its personality", |_| number(libc::SYS_personality, [0x0040_0000])).open(),
    probe("share memory", |_| number(libc::SYS_shmget, [0x6d61_6e6f, 4096, 0o1600])).open(),
    probe("run code that it wrote", |_| map_code()).open(),
    probe("take all memory of the host", |_| map_much(libc::MAP_PRIVATE)).works_outside(),
    probe("have threads without end", |_| threads()).works_outside(),
    probe("have processes without end", |_| processes()),
    probe("take memory that is not counted as its own", |_| map_much(libc::MAP_SHARED))
        .works_outside()
        .open(),
];

// ---- arguments -----------------------------------------------------------------------------

fn address<T: ?Sized>(of: *const T) -> u64 {
    of.cast::<()>() as u64
}

fn number<const N: usize>(number: libc::c_long, arguments: [u64; N]) -> io::Result<()> {
    call(number, arguments).map(drop)
}

/// A path with its end.
fn text(path: &str) -> Vec<u8> {
    [path.as_bytes(), b"\0"].concat()
}

const HERE: u64 = libc::AT_FDCWD as i64 as u64;

fn path1<const N: usize>(number: libc::c_long, path: &str, more: [u64; N]) -> io::Result<()> {
    let path = text(path);
    let mut arguments = [0; 6];
    arguments[0] = address(path.as_ptr());
    arguments[1..=N].copy_from_slice(&more);
    call(number, arguments).map(drop)
}

fn path2(number: libc::c_long, from: &str, to: &str) -> io::Result<()> {
    let (from, to) = (text(from), text(to));
    call(number, [address(from.as_ptr()), address(to.as_ptr())]).map(drop)
}

// ---- files ---------------------------------------------------------------------------------

fn open(path: &str, flags: i32) -> io::Result<()> {
    let path = text(path);
    let flags = u64::from(flags.cast_unsigned());
    call(libc::SYS_openat, [HERE, address(path.as_ptr()), flags, 0o600]).map(drop)
}

fn openat2(path: &str) -> io::Result<()> {
    let (path, how) = (text(path), [0_u64; 3]);
    call(libc::SYS_openat2, [HERE, address(path.as_ptr()), address(from_ref(&how)), 24]).map(drop)
}

/// Something to be found in it.
fn read_dir(path: &str) -> io::Result<()> {
    let path = text(path);
    let flags = (libc::O_RDONLY | libc::O_DIRECTORY) as u64;
    let directory = call(libc::SYS_openat, [HERE, address(path.as_ptr()), flags])?;
    let mut entries = [0_u8; 4096];
    let length = entries.len() as u64;
    let read = call(libc::SYS_getdents64, [directory, address(&raw mut entries), length])?;
    // Itself and its parent are 48 bytes.
    if read > 48 { Ok(()) } else { Err(io::Error::other("it is empty")) }
}

fn stat(path: &str) -> io::Result<()> {
    let (path, mut status) = (text(path), [0_u8; 256]);
    let out = address(&raw mut status);
    call(libc::SYS_newfstatat, [HERE, address(path.as_ptr()), out, 0]).map(drop)
}

fn mknod(path: &str, mode: u32, device: u64) -> io::Result<()> {
    path1(libc::SYS_mknod, path, [mode.into(), device])
}

/// The root of a file system has inode 2 on most.
fn open_by_handle() -> io::Result<()> {
    let handle: [u32; 4] = [8, 1, 2, 0];
    call(libc::SYS_open_by_handle_at, [0, address(from_ref(&handle)), 0]).map(drop)
}

fn execve(path: &str) -> io::Result<()> {
    let (path, none) = (text(path), [0_u64; 1]);
    let none = address(from_ref(&none));
    // It returns only if it failed.
    call(libc::SYS_execve, [address(path.as_ptr()), none, none]).map(drop)
}

// ---- networks ------------------------------------------------------------------------------

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    make_socket(family, kind, protocol).map(drop)
}

fn make_socket(family: i32, kind: i32, protocol: i32) -> io::Result<u64> {
    let numbers = [family, kind, protocol].map(|number| u64::from(number.cast_unsigned()));
    call(libc::SYS_socket, numbers)
}

/// 127.0.0.1, or wherever the family's address leads.
fn inet(port: u16) -> [u8; 16] {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    address[2..4].copy_from_slice(&port.to_be_bytes());
    address[4..8].copy_from_slice(&[127, 0, 0, 1]);
    address
}

fn connect_tcp(port: u16) -> io::Result<()> {
    let socket = make_socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let to = inet(port);
    call(libc::SYS_connect, [socket, address(from_ref(&to)), 16]).map(drop)
}

fn listen_tcp() -> io::Result<()> {
    let socket = make_socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let at = inet(0);
    call(libc::SYS_bind, [socket, address(from_ref(&at)), 16])?;
    call(libc::SYS_listen, [socket, 1]).map(drop)
}

fn send_udp(port: u16) -> io::Result<()> {
    let socket = make_socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let (to, byte) = (inet(port), [0_u8; 1]);
    let arguments = [socket, address(from_ref(&byte)), 1, 0, address(from_ref(&to)), 16];
    call(libc::SYS_sendto, arguments).map(drop)
}

fn unix(name: &[u8]) -> ([u8; 110], u64) {
    let mut address = [0; 110];
    address[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
    address[2..2 + name.len()].copy_from_slice(name);
    (address, 2 + name.len() as u64)
}

fn connect_named(name: &[u8]) -> io::Result<()> {
    let socket = make_socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    let (to, length) = unix(name);
    call(libc::SYS_connect, [socket, address(from_ref(&to)), length]).map(drop)
}

fn connect_unix(path: &str) -> io::Result<()> {
    connect_named(path.as_bytes())
}

fn connect_hidden(name: &str) -> io::Result<()> {
    connect_named(&[b"\0", name.as_bytes()].concat())
}

fn connect_vsock() -> io::Result<()> {
    let socket = make_socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)?;
    let to: [u32; 4] = [libc::AF_VSOCK as u32, 22, 2, 0];
    call(libc::SYS_connect, [socket, address(from_ref(&to)), 16]).map(drop)
}

/// The loopback interface, by SIOCSIFFLAGS.
fn interface_up() -> io::Result<()> {
    let socket = make_socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16] = 1;
    call(libc::SYS_ioctl, [socket, libc::SIOCSIFFLAGS, address(from_ref(&request))]).map(drop)
}

// ---- processes -----------------------------------------------------------------------------

/// SIGCONT, should it ever arrive.
fn kill_softly(pid: u32) -> io::Result<()> {
    number(libc::SYS_kill, [pid.into(), libc::SIGCONT as u64])
}

fn read_memory(pid: u32) -> io::Result<()> {
    let mut byte = [0_u8; 1];
    // Where this very program has its own, which is laid out as the parent's.
    let here = [address(&raw mut byte), 1];
    let there = [address(super::PROBE.as_ptr()), 1];
    let (here, there) = (address(from_ref(&here)), address(from_ref(&there)));
    call(libc::SYS_process_vm_readv, [pid.into(), here, 1, there, 1, 0]).map(drop)
}

fn steal_descriptor(pid: u32) -> io::Result<()> {
    let process = call(libc::SYS_pidfd_open, [pid.into(), 0])?;
    call(libc::SYS_pidfd_getfd, [process, 0, 0]).map(drop)
}

fn foreign_limit(pid: u32) -> io::Result<()> {
    let mut old = [0_u64; 2];
    call(libc::SYS_prlimit64, [pid.into(), 7, 0, address(&raw mut old)]).map(drop)
}

fn affinity(pid: u32) -> io::Result<()> {
    let all = [u64::MAX; 16];
    call(libc::SYS_sched_setaffinity, [pid.into(), 128, address(from_ref(&all))]).map(drop)
}

fn fork() -> io::Result<()> {
    child().map(drop)
}

/// It ends at once.
fn child() -> io::Result<u64> {
    match call(libc::SYS_fork, [])? {
        0 => super::sys::exit(0),
        pid => Ok(pid),
    }
}

// ---- privileges ----------------------------------------------------------------------------

fn groups() -> io::Result<()> {
    let root = [0_u32; 1];
    call(libc::SYS_setgroups, [1, address(from_ref(&root))]).map(drop)
}

fn capabilities() -> io::Result<()> {
    let header: [u32; 2] = [0x2008_0522, 0];
    let all: [u32; 6] = [u32::MAX, u32::MAX, 0, 0x1ff, 0x1ff, 0];
    call(libc::SYS_capset, [address(from_ref(&header)), address(from_ref(&all))]).map(drop)
}

fn mount() -> io::Result<()> {
    let kind = text("proc");
    let (kind, root) = (address(kind.as_ptr()), address(c"/".as_ptr()));
    call(libc::SYS_mount, [kind, root, kind, 0, 0]).map(drop)
}

fn remount() -> io::Result<()> {
    let root = address(c"/".as_ptr());
    call(libc::SYS_mount, [0, root, 0, libc::MS_REMOUNT, 0]).map(drop)
}

fn enter_namespaces(pid: u32) -> io::Result<()> {
    let process = call(libc::SYS_pidfd_open, [pid.into(), 0])?;
    call(libc::SYS_setns, [process, libc::CLONE_NEWNET as u64]).map(drop)
}

/// A program is refused like this map, which needs less.
fn bpf_map() -> io::Result<()> {
    let mut attributes = [0_u32; 32];
    attributes[..4].copy_from_slice(&[1, 4, 4, 1]);
    call(libc::SYS_bpf, [0, address(from_ref(&attributes)), 128]).map(drop)
}

fn set_clock() -> io::Result<()> {
    let time = [1_800_000_000_u64, 0];
    call(libc::SYS_clock_settime, [0, address(from_ref(&time))]).map(drop)
}

fn host_name() -> io::Result<()> {
    let name = b"manor";
    call(libc::SYS_sethostname, [address(name.as_ptr()), name.len() as u64]).map(drop)
}

fn realtime() -> io::Result<()> {
    let priority = 50_u32;
    call(libc::SYS_sched_setscheduler, [0, 1, address(from_ref(&priority))]).map(drop)
}

fn raise_limit() -> io::Result<()> {
    let more = [1_u64 << 20; 2];
    let files = libc::RLIMIT_NOFILE.into();
    call(libc::SYS_prlimit64, [0, files, address(from_ref(&more)), 0]).map(drop)
}

fn perf_events() -> io::Result<()> {
    let mut attributes = [0_u32; 32];
    attributes[1] = 128;
    let all = (-1_i64).cast_unsigned();
    call(libc::SYS_perf_event_open, [address(from_ref(&attributes)), all, 0, all, 0]).map(drop)
}

fn add_key() -> io::Result<()> {
    let (kind, name) = (text("user"), text("manor"));
    let ring = (-2_i64).cast_unsigned();
    let (kind, name) = (address(kind.as_ptr()), address(name.as_ptr()));
    call(libc::SYS_add_key, [kind, name, name, 5, ring]).map(drop)
}

fn ring() -> io::Result<()> {
    let parameters = [0_u64; 16];
    call(libc::SYS_io_uring_setup, [1, address(from_ref(&parameters))]).map(drop)
}

/// More than the limit of a process without a guest, and none of it touched.
fn map_much(kind: i32) -> io::Result<()> {
    let prot = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let flags = (kind | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as u64;
    call(libc::SYS_mmap, [0, 64 << 30, prot, flags, u64::MAX, 0]).map(drop)
}

fn map_code() -> io::Result<()> {
    let (all, private) = (7, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64);
    call(libc::SYS_mmap, [0, 4096, all, private, u64::MAX, 0]).map(drop)
}

/// More than the limit of a process without a guest.
const CROWD: usize = 1100;

fn threads() -> io::Result<()> {
    let gate = RwLock::new(());
    std::thread::scope(|scope| {
        // Those that are there wait for it to open, and end when this one has made all, or no more.
        let _shut = gate.write();
        for _ in 0..CROWD {
            let small = std::thread::Builder::new().stack_size(16 << 10);
            small.spawn_scoped(scope, || drop(gate.read()))?;
        }
        Ok(())
    })
}

/// Those that have ended count until they are waited for.
fn processes() -> io::Result<()> {
    let mut made = Vec::new();
    let refused = (0..CROWD).find_map(|_| child().map(|child| made.push(child)).err());
    for child in made {
        number(libc::SYS_wait4, [child, 0, 0, 0])?;
    }
    refused.map_or(Ok(()), Err)
}
