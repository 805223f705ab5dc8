//! [`Lab`]: a host with a bridge and a guest on a cable, each a network namespace, and the server.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, ipproto, socket, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::sys;

pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 1);
/// In the environment of the process that is to be the server.
pub(crate) const ROLE: &str = "MANOR_NETWORK_SERVER";

/// Whom the server becomes.
pub(crate) const USER: u32 = 65534;

pub(crate) struct Lab {
    pub server: String,
    pub client: String,
    directory: TempDir,
    upstream: SocketAddr,
    process: Option<Child>,
}

impl Lab {
    /// `None`, with the reason on stderr, where there can be none.
    pub(crate) fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: network namespaces are made by root");
            return None;
        }
        if Command::new("ip").arg("-V").output().is_err() {
            println!("SKIP: the command ip is missing (Debian package iproute2)");
            return None;
        }
        let name = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::tempdir().unwrap();
        let mut lab = Self {
            server: format!("manor-host-{name}"),
            client: format!("manor-guest-{name}"),
            directory,
            upstream: (Ipv4Addr::LOCALHOST, 0).into(),
            process: None,
        };
        lab.lay_cables();
        lab.upstream = lab.in_namespace(&lab.server, upstream);
        Some(lab)
    }

    fn lay_cables(&self) {
        let (server, client) = (self.server.as_str(), self.client.as_str());
        for namespace in [server, client] {
            self.ip(&["netns", "add", namespace]);
            self.ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        self.ip(&["-n", server, "link", "add", "br0", "type", "bridge"]);
        self.ip(&["-n", server, "address", "add", "192.168.77.1/24", "dev", "br0"]);
        self.ip(&["-n", server, "address", "add", "fd00:77::1/64", "dev", "br0", "nodad"]);
        self.ip(&[
            "-n", server, "link", "add", "s0", "type", "veth", "peer", "name", "c0", "netns",
            client,
        ]);
        self.ip(&["-n", server, "link", "set", "s0", "master", "br0", "up"]);
        self.ip(&["-n", server, "link", "set", "br0", "up"]);
        self.ip(&["-n", client, "link", "set", "c0", "up"]);
    }

    pub(crate) fn ip(&self, arguments: &[&str]) -> String {
        let output = run(Command::new("ip").args(arguments));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn in_namespace<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{name}")).unwrap();
        std::thread::scope(|scope| {
            let work = scope.spawn(move || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind).unwrap();
                work()
            });
            work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub(crate) fn in_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.in_namespace(&self.client, work)
    }

    pub(crate) fn run_in_client(&self, command: &[&str]) -> String {
        let mut command_there = Command::new("ip");
        command_there.args(["netns", "exec", &self.client]).args(command);
        let output = run(&mut command_there);
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    pub(crate) fn client_mac(&self) -> [u8; 6] {
        let link = self.ip(&["-n", &self.client, "-json", "link", "show", "dev", "c0"]);
        let link: Value = serde_json::from_str(&link).unwrap();
        let mac: network::Mac = link[0]["address"].as_str().unwrap().parse().unwrap();
        mac.0
    }

    /// What the guest's IPv6 takes for the largest packet.
    pub(crate) fn client_mtu6(&self) -> String {
        let mtu = self.run_in_client(&["cat", "/proc/sys/net/ipv6/conf/c0/mtu"]);
        mtu.trim().to_owned()
    }

    pub(crate) fn give_client(&self, address: Ipv4Addr) {
        let address = format!("{address}/24");
        self.ip(&["-n", &self.client, "address", "add", &address, "dev", "c0"]);
    }

    pub(crate) fn upstream(&self) -> SocketAddr {
        self.upstream
    }

    pub(crate) fn lease_file(&self) -> File {
        let path = self.directory.path().join("leases");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).open(path).unwrap()
    }

    /// A file of this lab's own.
    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    pub(crate) fn script(&self, text: &str) -> String {
        let path = self.directory.path().join("script");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Make what the server needs, as its daemon would, and start it with nothing else.
    pub(crate) fn start(&mut self, settings: Value) {
        let control = self.directory.path().join("control");
        let _ = fs::remove_file(&control);
        let sockets = self.in_namespace(&self.server, server_sockets);
        let mut handed = vec![
            OwnedFd::from(UnixListener::bind(&control).unwrap()),
            OwnedFd::from(self.lease_file()),
        ];
        handed.extend(sockets);
        let alone = alone();
        let handed: Vec<OwnedFd> = handed.iter().map(inherited).collect();
        let number = |place: usize| handed[place].as_raw_fd();
        let config = json!({
            "version": 1, "name": "lab", "bridge": "br0", "mtu": 1400,
            "files": {
                "control": number(0), "leases": number(1), "dhcp": number(2),
                "dns_udp": [number(3), number(4)], "dns_tcp": [number(5), number(6)],
                "router": number(7), "dhcp6": number(8),
            },
            "ipv4": "192.168.77.1/24",
            "ipv6": {
                "gateway": "fd00:77::1/64", "slaac": true, "server_id": "0004525400000000000000000000000000ab",
            },
            "confinement": { "user": { "uid": USER, "gid": USER } },
            "settings": settings,
        });
        let text = self.directory.path().join("config");
        fs::write(&text, config.to_string()).unwrap();
        let process = Command::new("ip")
            .args(["netns", "exec", &self.server])
            .args(["sh", "-c", "exec 3<&0 </dev/null; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "server_process", "--test-threads=1", "--nocapture"])
            .env(ROLE, "1")
            // The test harness serves on a second thread, whose heap glibc would ask /proc about.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(File::open(text).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        drop((handed, alone));
        self.process = Some(process);
        assert_eq!(self.status()["network"], "lab");
    }

    pub(crate) fn call(&self, request: &Value) -> Value {
        let mut stream = UnixStream::connect(self.directory.path().join("control")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        self.call(&json!({ "status": {} }))["ok"].take()
    }

    /// Ask the server to end, and see that it does so in good order.
    pub(crate) fn stop(&mut self) {
        assert_eq!(self.call(&json!({ "stop": {} })), json!({ "ok": {} }));
        let status = self.process.take().expect("started").wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// What the kernel says of the thread that serves, by the names of proc_pid_status(5).
    pub(crate) fn confinement(&self) -> BTreeMap<String, String> {
        let process = self.process.as_ref().expect("started").id();
        let statuses = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let statuses =
            statuses.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
        let status = statuses.into_iter().find(|it| it.starts_with("Name:\tnet:lab\n")).unwrap();
        let fields = status.lines().filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    }

    /// Memory of the server, KiB.
    pub(crate) fn resident(&self) -> u64 {
        let process = self.process.as_ref().expect("started").id();
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is_so(self) {
            assert!(Instant::now() < end, "not within 20 seconds: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        for namespace in [&self.server, &self.client] {
            run(Command::new("ip").args(["netns", "delete", namespace]));
        }
    }
}

/// Held while a process starts: what one server is to inherit must not get into another child.
static SPAWNING: Mutex<()> = Mutex::new(());

/// No process starts as long as this is held.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    SPAWNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(command: &mut Command) -> Output {
    let alone = alone();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    drop(alone);
    child.and_then(Child::wait_with_output).unwrap()
}

/// A duplicate that a child keeps, far from the numbers that a shell uses.
fn inherited(file: &OwnedFd) -> OwnedFd {
    let duplicate = rustix::io::fcntl_dupfd_cloexec(file, 100).unwrap();
    rustix::io::fcntl_setfd(&duplicate, rustix::io::FdFlags::empty()).unwrap();
    duplicate
}

/// DHCP, DNS over UDP, DNS over TCP, router: as the daemon opens them for a bridge `br0`.
fn server_sockets() -> Vec<OwnedFd> {
    let dhcp = UdpSocket::bind("0.0.0.0:67").unwrap();
    sys::bind_to_device(dhcp.as_fd(), "br0");
    dhcp.set_broadcast(true).unwrap();
    let gateways: [IpAddr; 2] = [GATEWAY.into(), GATEWAY6.into()];
    let udp = gateways.map(|gateway| UdpSocket::bind((gateway, 53)).unwrap());
    let tcp = gateways.map(|gateway| TcpListener::bind((gateway, 53)).unwrap());
    let router = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
    sys::bind_to_device(router.as_fd(), "br0");
    let index = rustix::net::netdevice::name_to_index(&router, "br0").unwrap();
    let all_routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    sockopt::set_ipv6_add_membership(&router, &all_routers, index).unwrap();
    let dhcp6 = UdpSocket::bind("[::]:547").unwrap();
    sys::bind_to_device(dhcp6.as_fd(), "br0");
    let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
    dhcp6.join_multicast_v6(&servers, index).unwrap();
    let mut sockets = vec![OwnedFd::from(dhcp)];
    sockets.extend(udp.map(OwnedFd::from));
    sockets.extend(tcp.map(OwnedFd::from));
    sockets.push(router);
    sockets.push(dhcp6.into());
    sockets
}

/// A resolver on the host that answers 192.0.2.53 to everything.
fn upstream() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&answer_of(&buffer[..length]), from);
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut query).unwrap();
            let reply = answer_of(&query);
            stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&reply).unwrap();
        }
    });
    address
}

fn answer_of(query: &[u8]) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x80;
    reply[7] = 1;
    // The name of the question, A, IN, a minute, four bytes.
    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 53]);
    reply
}
