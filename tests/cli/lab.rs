//! A host with a daemon, a guest and a server in the world, each a network namespace.

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use manor_tests::tools;
use manor_tests::tree::Program;

use super::rig::Rig;

/// What a host of these begins with.
pub(super) const LAB: &str =
    "<network><name>lab</name><forward mode='nat'/><bridge name='virbr7' stp='off'/>
  <ip address='10.77.0.1' netmask='255.255.255.0'>
    <dhcp><range start='10.77.0.10' end='10.77.0.19'/></dhcp>
  </ip>
</network>";

/// A host, a guest that will be in its network, and a server in the world.
pub(super) struct Host {
    pub(super) rig: Rig,
    /// Its namespace, its guest's, and that of the world.
    pub(super) names: [String; 3],
    nft: Program,
    pub(super) busybox: Program,
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

impl Host {
    /// None where there can be none, with the reason.
    pub(super) fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() || Command::new("ip").arg("-V").output().is_err() {
            println!("SKIP: network namespaces need root and the command ip (iproute2)");
            return None;
        }
        let (nft, busybox) = (tools::nft().unwrap(), tools::busybox().unwrap());
        let number = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let names = ["host", "guest", "world"].map(|of| format!("manor-cli-{of}-{number}"));
        for name in &names {
            ip(&format!("netns add {name}"));
            ip(&format!("-n {name} link set lo up"));
        }
        let [host, _, world] = &names;
        ip(&format!("-n {host} link add out type veth peer name in netns {world}"));
        ip(&format!("-n {host} address add 203.0.113.1/24 dev out"));
        ip(&format!("-n {host} link set out up"));
        ip(&format!("-n {world} address add 203.0.113.2/24 dev in"));
        ip(&format!("-n {world} link set in up"));
        let rig = Rig::in_namespace(host);
        rig.write("lab.xml", LAB);
        std::fs::create_dir(rig.path("world")).unwrap();
        rig.write("world/index.html", "from the world\n");
        Some(Self { rig, names, nft, busybox })
    }

    pub(super) fn within(&self, place: usize, program: &Program, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[place]]).args(program.words()).args(arguments);
        command.current_dir(self.rig.path("")).stdin(Stdio::null());
        command
    }

    pub(super) fn nft(&self, arguments: &[&str]) -> String {
        let output = self.within(0, &self.nft, arguments).output().unwrap();
        assert!(output.status.success(), "nft {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) fn guest(&self, arguments: &[&str]) -> Output {
        self.within(1, &self.busybox, arguments).output().unwrap()
    }

    pub(super) fn manor(&self, line: &str) -> String {
        let outcome = self.rig.manor(line.split(' '));
        assert_eq!(outcome.status, 0, "{line}: {}", outcome.err);
        outcome.out
    }

    pub(super) fn metrics(&self) -> String {
        use std::io::{Read as _, Write as _};
        let socket = self.rig.path("run/api.sock");
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub(super) fn problems(&self) -> String {
        let info = self.manor("net-info lab");
        info.lines().filter(|line| line.starts_with("Problem:")).collect::<Vec<_>>().join("\n")
    }

    /// Of the network's addresses, as every guest gets it.
    pub(super) fn connect(&self) {
        let [host, guest, _] = &self.names;
        ip(&format!("-n {host} link add tap0 type veth peer name eth0 netns {guest}"));
        ip(&format!("-n {host} link set tap0 master virbr7 up"));
        ip(&format!("-n {guest} link set eth0 up"));
        let script = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\n\
                      ip address add $ip/$mask dev $interface\nip route add default via $router\n";
        self.rig.write("take", script);
        Command::new("chmod").arg("755").arg(self.rig.path("take")).status().unwrap();
        let take = self.rig.path("take").display().to_string();
        let asked = ["udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "10", "-T", "1", "-s", &take];
        let output = self.guest(&asked);
        assert!(output.status.success(), "{output:?}");
    }

    pub(super) fn reaches_the_world(&self) -> bool {
        let ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | \"$0\" nc -w 2 203.0.113.2 80";
        let busybox = self.busybox.words().join(" ");
        let fetched = self.guest(&["sh", "-c", ask, &busybox]);
        String::from_utf8_lossy(&fetched.stdout).ends_with("from the world\n")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.rig.manor(["net-destroy", "lab"]);
        for name in &self.names {
            let pids = Command::new("ip").args(["netns", "pids", name]).output().unwrap().stdout;
            // The server in the world; the daemon is the rig's to end.
            if name.contains("world") {
                for pid in String::from_utf8(pids).unwrap().lines() {
                    super::rig::kill("KILL", pid);
                }
            }
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}
