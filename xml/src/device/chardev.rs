//! Character devices: `<serial>`, `<parallel>`, `<console>` and `<channel>`, and where their bytes go on the host.

use std::path::PathBuf;

use crate::cursor::Cursor;
use crate::device::address::DeviceAddress;
use crate::diagnostic::Kind;
use crate::element::element;
use crate::value::{OnOff, YesNo, names};
use crate::verbatim::Verbatim;

names! {
    pub enum CharType {
        Pty = "pty", File = "file", Unix = "unix", Tcp = "tcp", Udp = "udp", Null = "null", Stdio = "stdio",
        Vc = "vc", Dev = "dev", Pipe = "pipe", SpiceVmc = "spicevmc", SpicePort = "spiceport", Nmdm = "nmdm",
        VdAgent = "qemu-vdagent", Dbus = "dbus",
    }
    pub enum SocketMode { Connect = "connect", Bind = "bind", Client = "client", Server = "server" }
    pub enum CharProtocol { Raw = "raw", Telnet = "telnet", Telnets = "telnets", Tls = "tls" }
    pub enum SerialTargetType {
        Isa = "isa-serial", Usb = "usb-serial", Pci = "pci-serial", SpaprVio = "spapr-vio-serial",
        System = "system-serial", Sclp = "sclp-serial", IsaDebug = "isa-debug",
    }
    pub enum SerialModel {
        Isa = "isa-serial", Usb = "usb-serial", Pci = "pci-serial", SpaprVty = "spapr-vty", Pl011 = "pl011",
        Ns16550a = "16550a", SclpConsole = "sclpconsole", SclpLmConsole = "sclplmconsole",
        IsaDebugCon = "isa-debugcon",
    }
    pub enum ConsoleTargetType {
        Serial = "serial", Virtio = "virtio", Xen = "xen", Uml = "uml", Lxc = "lxc", OpenVz = "openvz",
        Sclp = "sclp", SclpLm = "sclplm",
    }
    pub enum ChannelTargetType { Virtio = "virtio", GuestFwd = "guestfwd", Xen = "xen" }
    pub enum ChannelState { Connected = "connected", Disconnected = "disconnected" }
}

element! {
    /// A 16550 port, or (as `<parallel>`) a printer port.
    pub struct Serial {
        attr("type") kind: CharType,
        attr tty: Option<PathBuf>,
        child("source") sources: Vec<CharSource>,
        leaf("protocol" "type") protocol: Option<CharProtocol>,
        child log: Option<CharLog>,
        child target: Option<SerialTarget>,
        leaf("alias" "name") alias: Option<String>,
        leaf("acpi" "index") acpi_index: Option<u32>,
        child address: Option<DeviceAddress>,
    }
    check Serial::check;
}

impl Serial {
    fn check(&self, at: Cursor<'_>) {
        check_sources(at, self.kind, &self.sources, false);
    }
}

element! {
    #[derive(Default)]
    pub struct SerialTarget {
        attr("type") kind: Option<SerialTargetType>,
        attr port: Option<u32>,
        leaf("model" "name") model: Option<SerialModel>,
    }
}

element! {
    /// The first one of type `serial` is the first serial port seen by another name.
    pub struct Console {
        attr("type") kind: Option<CharType>,
        attr tty: Option<PathBuf>,
        child("source") sources: Vec<CharSource>,
        leaf("protocol" "type") protocol: Option<CharProtocol>,
        child log: Option<CharLog>,
        child target: Option<ConsoleTarget>,
        leaf("alias" "name") alias: Option<String>,
        leaf("acpi" "index") acpi_index: Option<u32>,
        child address: Option<DeviceAddress>,
    }
    check Console::check;
}

impl Console {
    /// `<console tty='/dev/pts/5'/>` of libvirt's first years had no type and meant a pty.
    pub fn kind(&self) -> CharType {
        self.kind.unwrap_or(CharType::Pty)
    }

    /// It shows the first serial port, rather than being a device of its own.
    pub fn is_serial(&self) -> bool {
        matches!(
            self.target.as_ref().and_then(|target| target.kind),
            None | Some(ConsoleTargetType::Serial)
        )
    }

    fn check(&self, at: Cursor<'_>) {
        check_sources(at, self.kind(), &self.sources, false);
    }
}

element! {
    #[derive(Default)]
    pub struct ConsoleTarget {
        attr("type") kind: Option<ConsoleTargetType>,
        attr port: Option<u32>,
    }
}

element! {
    /// A port the guest finds by name, such as its agent's.
    pub struct Channel {
        attr("type") kind: CharType,
        child("source") sources: Vec<CharSource>,
        leaf("protocol" "type") protocol: Option<CharProtocol>,
        child log: Option<CharLog>,
        child target: ChannelTarget,
        leaf("alias" "name") alias: Option<String>,
        child address: Option<DeviceAddress>,
    }
    check Channel::check;
}

impl Channel {
    pub fn is_virtio(&self) -> bool {
        self.target.kind == ChannelTargetType::Virtio
    }

    fn check(&self, at: Cursor<'_>) {
        // A socket of a channel is placed by the manager when nobody asks for a path.
        check_sources(at, self.kind, &self.sources, true);
    }
}

element! {
    pub struct ChannelTarget {
        attr("type") kind: ChannelTargetType,
        attr address: Option<String>,
        attr port: Option<u16>,
        attr name: Option<String>,
        attr state: Option<ChannelState>,
    }
    check ChannelTarget::check;
}

impl ChannelTarget {
    fn check(&self, at: Cursor<'_>) {
        if self.kind == ChannelTargetType::GuestFwd {
            for (name, missing) in
                [("address", self.address.is_none()), ("port", self.port.is_none())]
            {
                if missing {
                    at.missing_attribute(name);
                }
            }
        }
    }
}

element! {
    /// One end on the host; UDP has two, one to bind and one to send to.
    #[derive(Default)]
    pub struct CharSource {
        attr mode: Option<SocketMode>,
        attr path: Option<PathBuf>,
        attr host: Option<String>,
        attr service: Option<String>,
        attr tls: Option<YesNo>,
        attr channel: Option<String>,
        attr master: Option<String>,
        attr slave: Option<String>,
        attr append: Option<OnOff>,
        child reconnect: Option<Reconnect>,
        child("seclabel") security_labels: Vec<Verbatim>,
        leaf("clipboard" "copypaste") clipboard: Option<YesNo>,
        leaf("mouse" "mode") mouse: Option<SocketMode>,
    }
}

element! {
    pub struct Reconnect {
        attr enabled: YesNo,
        attr timeout: Option<u32>,
    }
}

element! {
    pub struct CharLog {
        attr file: PathBuf,
        attr append: Option<OnOff>,
    }
}

pub(crate) fn check_sources(
    at: Cursor<'_>,
    kind: CharType,
    sources: &[CharSource],
    auto_path: bool,
) {
    let required: &[&'static str] = match kind {
        CharType::File | CharType::Dev | CharType::Pipe => &["path"],
        CharType::Unix if !auto_path => &["path"],
        CharType::Tcp => &["mode", "host", "service"],
        CharType::SpicePort | CharType::Dbus => &["channel"],
        CharType::Nmdm => &["master", "slave"],
        _ => &[],
    };
    if sources.is_empty() && !required.is_empty() {
        at.missing_child("source");
    }
    for source in at.children("source") {
        for name in required.iter().filter(|name| source.attribute(name).is_none()) {
            source.missing_attribute(name);
        }
    }
    let most = if kind == CharType::Udp { 2 } else { 1 };
    if let Some(extra) = at.children("source").nth(most) {
        extra
            .error(Kind::Invalid, format!("a device of type='{kind}' has at most {most} <source>"));
    }
}
