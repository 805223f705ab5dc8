//! What a daemon tells the processes of guests and networks that they are to be.

use std::io::{Seek as _, Write as _};
use std::os::fd::OwnedFd;

use network::config::{Confinement, NetworkConfig, NetworkFiles, Settings};
use vmm_protocol::Version;
use vmm_protocol::config::{
    Action, Boot, Clock, CpuDetails, CpuModel, Cpus, Fd, Identity, Isolation, Lifecycle, Machine,
    MachineConfig, Memory, MemoryBacking, Numa, Platform, ProcessFiles, Smbios, Timers, Topology,
};

/// As the daemon says what a process is to be.
pub(super) fn file(config: &impl serde::Serialize) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&serde_json::to_vec(config).unwrap()).unwrap();
    file.rewind().unwrap();
    file.into()
}

/// It serves nothing: its control socket is the one file that it has.
pub(super) fn network(confinement: Confinement) -> NetworkConfig {
    NetworkConfig {
        version: network::config::VERSION,
        name: "lab".to_owned(),
        bridge: "virbr7".to_owned(),
        files: NetworkFiles {
            control: Fd(4),
            leases: None,
            dhcp: None,
            dhcp6: None,
            dns_udp: Vec::new(),
            dns_tcp: Vec::new(),
            router: None,
        },
        confinement,
        mtu: None,
        isolated: true,
        ipv4: None,
        ipv6: None,
        settings: Settings::default(),
    }
}

/// A kernel, and nothing else. Its files are, from the fourth descriptor on: `/dev/kvm`, its control socket, its exit
/// record, the kernel.
pub(super) fn guest(isolation: Isolation, seccomp: bool) -> MachineConfig {
    let id = |number: u128| uuid::Uuid::from_u128(number);
    let identity =
        Identity { name: "web".to_owned(), uuid: id(1), start_token: id(2), boot_id: id(3) };
    MachineConfig {
        version: Version::CURRENT,
        identity,
        platform: Platform { machine: Machine::Q35, version: 1 },
        memory: Memory {
            size: 32 << 20,
            backing: MemoryBacking::Anonymous,
            locked: false,
            prefault: false,
            mergeable: false,
        },
        cpus: Cpus {
            count: 1,
            present: None,
            model: CpuModel::HostPassthrough,
            details: CpuDetails::default(),
            topology: Topology { sockets: 1, dies: 1, cores: 1, threads: 1 },
            affinity: Vec::new(),
        },
        numa: Numa::default(),
        clock: Clock { offset: 0, kvmclock: true, timers: Timers::default() },
        boot: Boot::Kernel { kernel: Fd(7), initrd: None, cmdline: String::new() },
        smbios: Smbios::default(),
        disk_limits: Vec::new(),
        disk_errors: Vec::new(),
        generation: None,
        fw_cfg: Vec::new(),
        lifecycle: Lifecycle {
            on_poweroff: Action::Destroy,
            on_reboot: Action::Destroy,
            on_crash: Action::Destroy,
        },
        io_threads: Vec::new(),
        pci: Vec::new(),
        serial: Vec::new(),
        pvpanic: false,
        ramfb: None,
        vnc: Vec::new(),
        process: ProcessFiles {
            kvm: Fd(4),
            control: Fd(5),
            exit_record: Fd(6),
            log: None,
            locks: Vec::new(),
            live_record: String::new(),
            seccomp,
            isolation,
        },
        restore: None,
        start_paused: false,
    }
}
