//! The daemon's configuration file (TOML).

use std::path::PathBuf;

use serde::Deserialize;

use crate::auth::Role;
use crate::domain::SaveFormat;
use crate::users;

/// Connections to a socket.
const MAX_CLIENTS: u16 = 2048;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Definitions and the event journal.
    pub state_dir: PathBuf,
    /// What lasts until the host reboots: sockets, locks, records of running domains.
    pub run_dir: PathBuf,
    /// Logs of VMM processes.
    pub log_dir: PathBuf,
    /// Whom the daemon becomes when it has started, by name or number, where it is root. It stays who it
    /// is if empty, or where the default is no user of the host.
    pub user: String,
    pub api: Api,
    pub libvirt: Libvirt,
    pub listen: Listen,
    pub log: Log,
    pub audit: Audit,
    pub domains: Domains,
    pub networks: Networks,
    pub firmware: Firmware,
    pub vnc: Vnc,
    pub nbd: Nbd,
    pub files: Files,
}

/// What of the host's files a daemon that is not root may have for its guests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// Files, devices, and directories with all that is in them, beside the usual places.
    pub allow: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    pub socket: PathBuf,
    /// Group that may use `socket`; root alone if empty.
    pub socket_group: String,
    /// Octal text, `0660`.
    pub socket_mode: String,
    /// A second socket that grants read access only; none if empty.
    pub read_only_socket: PathBuf,
    pub read_only_socket_mode: String,
    /// Connections at a time to each of the sockets that the API has, over TLS as well.
    pub max_clients: u16,
    /// `127.0.0.1:8600`; no plain TCP if empty. Loopback only: nobody has to prove who he is.
    pub listen: String,
    /// What a TCP connection may do, by the name of its access class: nobody is known there.
    pub listen_access: String,
}

/// Sockets for libvirt's clients. Whoever may use those of `[api]` may use these.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Libvirt {
    /// `/run/libvirt/libvirt-sock` is where clients look by themselves; none if empty.
    pub socket: PathBuf,
    /// A second socket that grants read access only; none if empty.
    pub read_only_socket: PathBuf,
    /// Connections at a time to each of the sockets that libvirt's clients have.
    pub max_clients: u16,
    /// `0.0.0.0:16514`, for clients of other hosts; none if empty.
    pub tls: String,
    /// Where the certificates are, in the places that libvirt has for them.
    pub pki: PathBuf,
    /// How clients of the socket, of the read-only one and of TLS prove who they are, beside what
    /// connecting proves: `none` or `sasl`, as libvirtd's configuration has it.
    pub auth_unix_rw: String,
    pub auth_unix_ro: String,
    pub auth_tls: String,
    /// With `auth_tls = "sasl"`: clients need no certificate.
    pub tls_no_verify_certificate: bool,
    /// What clients may do, by the subjects of their certificates.
    pub client: Vec<LibvirtClient>,
    /// `127.0.0.1:16509`; no plain TCP if empty. Loopback only: nobody has to prove who he is.
    pub tcp: String,
    /// What a TCP connection may do, by the name of its access class.
    pub tcp_access: String,
}

/// What a certificate with such a subject is good for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LibvirtClient {
    /// `C=GB,O=Example,CN=*`, as in libvirt's `tls_allowed_dn_list`.
    pub subject: String,
    pub role: Role,
    /// Names or UUIDs of the domains that it is confined to; without it, it is not.
    pub domains: Option<Vec<String>>,
}

impl Default for Libvirt {
    fn default() -> Self {
        Self {
            socket: PathBuf::new(),
            read_only_socket: PathBuf::new(),
            max_clients: MAX_CLIENTS,
            tls: String::new(),
            pki: "/etc/pki".into(),
            auth_unix_rw: "none".to_owned(),
            auth_unix_ro: "none".to_owned(),
            auth_tls: "none".to_owned(),
            tls_no_verify_certificate: false,
            client: Vec::new(),
            tcp: String::new(),
            tcp_access: "read".to_owned(),
        }
    }
}

/// The API over TLS, for callers who can prove who they are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// `0.0.0.0:16515`; none if empty.
    pub tcp: String,
    /// The server's, with those between it and its authority; PEM, as the others.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who signs the certificates of clients; without it, they come by tokens alone.
    pub client_ca: PathBuf,
    pub client: Vec<ListenClient>,
}

/// What a client's certificate is good for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenClient {
    pub common_name: String,
    pub role: Role,
    /// Names or UUIDs of the domains that it is confined to; without it, it is not.
    pub domains: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter as `RUST_LOG` has it.
    pub level: String,
    /// `text` or `json`.
    pub format: String,
}

/// How much of the audit log is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// From this size on a new file is begun.
    pub file_size_mib: u32,
    /// Older files that stay.
    pub keep: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Domains {
    pub autostart: bool,
    /// Seconds a VMM has to build its machine and answer.
    pub start_timeout: u64,
    /// Seconds a VMM has to answer a command.
    pub command_timeout: u64,
    pub seccomp: bool,
    /// How memory lies in the files of saved guests (libvirt's `save_image_format`).
    pub save_image_format: SaveFormat,
    /// What VMMs give up before they build their machines.
    pub isolation: Isolation,
    /// The first and the last user id of those that they become, one for each, where the daemon is root.
    pub users: (u32, u32),
    /// cgroup v2 subtree for VMMs (`/sys/fs/cgroup/manor.slice`); found by itself if empty.
    pub cgroup: PathBuf,
}

/// How much of a VMM's isolation a start needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// None, and none is tried: only to debug VMMs.
    Off,
    /// What the host offers.
    #[default]
    Possible,
    /// All of it, or the guest does not start.
    Required,
}

/// The processes that give guests of networks their addresses and names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Networks {
    /// Whom they run as, where the daemon is root: a name or a number of /etc/passwd.
    pub user: String,
    pub seccomp: bool,
}

/// Where the images are that a guest without a kernel of its own starts with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Firmware {
    /// BIOS images; the first that exists is used.
    pub bios: Vec<PathBuf>,
    /// Directories of option ROMs: the BIOS of a graphics card, the boot code of a network card.
    pub option_roms: Vec<PathBuf>,
    /// Directories of firmware descriptors (JSON), those that come first hiding the others' files.
    pub descriptors: Vec<PathBuf>,
}

/// What holds for the VNC servers of all guests, as libvirt's `qemu.conf` has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vnc {
    /// Viewers come in by TLS, and in no other way.
    pub tls: bool,
    /// Has `server-cert.pem` and `server-key.pem`, and `ca-cert.pem` for `tls_x509_verify`.
    pub tls_x509_cert_dir: PathBuf,
    /// Viewers need a certificate that the authority in `ca-cert.pem` signed.
    pub tls_x509_verify: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nbd {
    /// Has `ca-cert.pem`, and `client-cert.pem` and `client-key.pem` for servers that want them.
    pub tls_x509_cert_dir: PathBuf,
}

impl Default for Nbd {
    fn default() -> Self {
        Self { tls_x509_cert_dir: "/etc/pki/libvirt-nbd".into() }
    }
}

impl Default for Vnc {
    fn default() -> Self {
        Self {
            tls: false,
            tls_x509_cert_dir: "/etc/pki/libvirt-vnc".into(),
            tls_x509_verify: false,
        }
    }
}

impl Default for Firmware {
    fn default() -> Self {
        Self {
            bios: vec![
                "/usr/share/seabios/bios-256k.bin".into(),
                "/usr/share/qemu/bios-256k.bin".into(),
            ],
            option_roms: vec![
                "/usr/share/seabios".into(),
                "/usr/lib/ipxe/qemu".into(),
                "/usr/share/qemu".into(),
            ],
            descriptors: vec!["/etc/qemu/firmware".into(), "/usr/share/qemu/firmware".into()],
        }
    }
}

/// The daemon's user by default, which `manor setup` makes.
pub const USER: &str = "manor";

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/manor".into(),
            run_dir: "/run/manor".into(),
            log_dir: "/var/log/manor".into(),
            user: USER.into(),
            api: Api::default(),
            libvirt: Libvirt::default(),
            listen: Listen::default(),
            log: Log::default(),
            audit: Audit::default(),
            domains: Domains::default(),
            networks: Networks::default(),
            firmware: Firmware::default(),
            vnc: Vnc::default(),
            nbd: Nbd::default(),
            files: Files::default(),
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            socket: "/run/manor/api.sock".into(),
            socket_group: "manor".into(),
            socket_mode: "0660".into(),
            read_only_socket: "/run/manor/api-ro.sock".into(),
            read_only_socket_mode: "0666".into(),
            max_clients: MAX_CLIENTS,
            listen: String::new(),
            listen_access: "read".into(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            tcp: String::new(),
            certificate: "/etc/manor/tls/server-cert.pem".into(),
            key: "/etc/manor/tls/server-key.pem".into(),
            client_ca: PathBuf::new(),
            client: Vec::new(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: "text".into() }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self { file_size_mib: 16, keep: 8 }
    }
}

impl Default for Networks {
    fn default() -> Self {
        Self { user: "nobody".into(), seccomp: true }
    }
}

impl Default for Domains {
    fn default() -> Self {
        Self {
            autostart: true,
            start_timeout: 30,
            command_timeout: 10,
            seccomp: true,
            save_image_format: SaveFormat::Raw,
            isolation: Isolation::default(),
            users: (*users::DEFAULT.start(), *users::DEFAULT.end()),
            cgroup: PathBuf::new(),
        }
    }
}
