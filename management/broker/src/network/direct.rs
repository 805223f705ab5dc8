//! macvtaps: interfaces of guests directly on one of the host's (`<interface type='direct'>`). Other
//! than a tap, one stays when its files are closed, so each bears the name of its domain, by which what
//! is left of a domain is found and removed, whoever died meanwhile.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVtap, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVtapMode,
};
use rustix::fs::{Mode, OFlags, open as open_file};
use serde::{Deserialize, Serialize};

use super::bridge::find;
use super::netlink::Netlink;
use crate::sys::{self, InterfaceName};
use crate::{BrokerError, TapQueues};

/// As libvirt names them.
const NAME: &str = "macvtap";
const MOST: u32 = 8192;
/// The device node is there at once, or when udev has made it.
const PATIENCE: Duration = Duration::from_secs(5);
const TURN: Duration = Duration::from_millis(5);
/// As virtio 1.x lays it out, `num_buffers` included.
const VNET_HEADER: i32 = 12;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Direct {
    /// The host's interface.
    pub source: String,
    pub mode: DirectMode,
    /// None: the first free `macvtapN`.
    pub name: Option<String>,
    /// The guest's, and so the macvtap's.
    pub mac: [u8; 6],
    pub mtu: Option<u16>,
    pub queues: u16,
    /// The domain.
    pub owner: String,
}

/// What guests on one interface see of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirectMode {
    /// What the switch outside sends back.
    Vepa,
    Private,
    Bridge,
    /// The interface is the guest's alone.
    Passthrough,
}

fn alias(owner: &str) -> String {
    format!("manor domain {owner}")
}

pub(crate) fn open(spec: &Direct) -> Result<TapQueues, BrokerError> {
    let act = |act: &str| BrokerError::host(format!("{act} a macvtap on {:?}", spec.source));
    let mut netlink = Netlink::route().map_err(act("reach the kernel for"))?;
    let source = find(&mut netlink, &spec.source).map_err(act("look for the interface of"))?;
    let source = source.ok_or_else(|| BrokerError::NoSource { name: spec.source.clone() })?.index;
    remove_half_made(&mut netlink, spec, source).map_err(act("remove what is left of"))?;
    let name = create(&mut netlink, spec, source)?;
    let found = find(&mut netlink, &name).map_err(act("look for"))?;
    let index = found.map(|link| link.index).ok_or_else(|| io::ErrorKind::NotFound.into());
    let index = index.map_err(act("find"))?;
    let opened = set_up(&mut netlink, spec, index, &name).and_then(|()| queues(spec, index, &name));
    match opened {
        Ok(queues) => Ok(TapQueues { name, queues }),
        Err(error) => {
            if let Err(error) = remove(&mut netlink, index) {
                tracing::warn!(name, %error, "a macvtap stays");
            }
            Err(error)
        }
    }
}

fn create(netlink: &mut Netlink, spec: &Direct, source: u32) -> Result<String, BrokerError> {
    let mut attempt = |name: &str| {
        if InterfaceName::new(name).is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut message = LinkMessage::default();
        let mode = match spec.mode {
            DirectMode::Vepa => MacVtapMode::Vepa,
            DirectMode::Private => MacVtapMode::Private,
            DirectMode::Bridge => MacVtapMode::Bridge,
            DirectMode::Passthrough => MacVtapMode::Passthrough,
        };
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Link(source),
            LinkAttribute::Address(spec.mac.to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::MacVtap),
                LinkInfo::Data(InfoData::MacVtap(vec![InfoMacVtap::Mode(mode)])),
            ]),
        ];
        netlink.act(Message::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    };
    let exists = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
    if let Some(name) = &spec.name {
        return match attempt(name) {
            Ok(()) => Ok(name.clone()),
            Err(error) if exists(&error) => Err(BrokerError::InterfaceTaken { name: name.clone() }),
            Err(error) => Err(refused(spec, error)),
        };
    }
    for number in 0..MOST {
        let name = format!("{NAME}{number}");
        match attempt(&name) {
            Ok(()) => return Ok(name),
            Err(error) if exists(&error) => {}
            Err(error) => return Err(refused(spec, error)),
        }
    }
    Err(refused(spec, io::Error::other(format!("there are {MOST} of them"))))
}

fn refused(spec: &Direct, source: io::Error) -> BrokerError {
    let name = spec.source.clone();
    let reason = match source.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "the kernel has none: load the module macvtap",
        // Another kind of port, or a passthrough that shares with nobody.
        Some(libc::EBUSY | libc::EINVAL) => {
            "it is in a bridge or a bond, or the interface of a guest in mode passthrough"
        }
        _ => "the kernel refuses it",
    };
    BrokerError::Direct { name, reason: reason.into(), source }
}

fn set_up(netlink: &mut Netlink, spec: &Direct, index: u32, name: &str) -> Result<(), BrokerError> {
    let act = |act: String| BrokerError::host(format!("{act} macvtap {name:?}"));
    let message = |attributes: Vec<LinkAttribute>| {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = attributes;
        message
    };
    // In mode passthrough it was made with the address of its source.
    let named = message(vec![
        LinkAttribute::IfAlias(alias(&spec.owner)),
        LinkAttribute::Address(spec.mac.to_vec()),
    ]);
    netlink.act(Message::SetLink(named), 0).map_err(act("give the guest's address to".into()))?;
    if let Some(mtu) = spec.mtu {
        let text = format!("give the MTU {mtu}, more than {:?} has?, to", spec.source);
        let message = message(vec![LinkAttribute::Mtu(mtu.into())]);
        netlink.act(Message::SetLink(message), 0).map_err(act(text))?;
    }
    let mut up = message(Vec::new());
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    netlink.act(Message::SetLink(up), 0).map_err(|source| {
        let reason = match source.raw_os_error() {
            Some(libc::EADDRINUSE) => "another interface on it has the guest's MAC address",
            _ => "the kernel does not bring it up",
        };
        BrokerError::Direct { name: spec.source.clone(), reason: reason.into(), source }
    })
}

fn queues(spec: &Direct, index: u32, name: &str) -> Result<Vec<OwnedFd>, BrokerError> {
    let path = PathBuf::from(format!("/dev/tap{index}"));
    let host = |act: &str| BrokerError::host(format!("{act} {} of {name:?}", path.display()));
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if spec.queues > 1 {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    let requested = InterfaceName::new(name)
        .ok_or_else(|| BrokerError::NoInterface { name: name.to_owned() })?;
    let until = Instant::now() + PATIENCE;
    let mut files = Vec::new();
    while files.len() < usize::from(spec.queues.max(1)) {
        let file = match open_file(
            &path,
            OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK,
            Mode::empty(),
        ) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NXIO) if Instant::now() < until => {
                std::thread::sleep(TURN);
                continue;
            }
            Err(errno) => return Err(BrokerError::open("open", "device", &path, errno.into())),
        };
        sys::tun_attach(file.as_fd(), &requested, flags).map_err(host("set up"))?;
        // A node of that number may be another interface's, in a namespace of the network.
        let found = sys::tun_name(file.as_fd()).map_err(host("look at"))?;
        if found != name {
            let other = io::Error::other(format!("it is the interface {found:?}"));
            return Err(host("take")(other));
        }
        sys::tun_set_header(file.as_fd(), VNET_HEADER).map_err(host("set up"))?;
        files.push(file);
    }
    Ok(files)
}

fn remove(netlink: &mut Netlink, index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match netlink.act(Message::DelLink(message), 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// Remove the macvtaps of a domain, but for those that it has now.
pub(super) fn sweep(owner: &str, keep: &[String]) -> Result<(), BrokerError> {
    let act = || BrokerError::host("remove the macvtaps of a domain");
    let mut netlink = Netlink::route().map_err(act())?;
    let ours = alias(owner);
    for found in macvtaps(&mut netlink).map_err(act())? {
        if found.alias == ours && !keep.contains(&found.name) {
            remove(&mut netlink, found.index).map_err(act())?;
        }
    }
    Ok(())
}

/// Between its creation and its name a macvtap has but the guest's address.
fn remove_half_made(netlink: &mut Netlink, spec: &Direct, source: u32) -> io::Result<()> {
    for found in macvtaps(netlink)? {
        let is_ours = found.source == Some(source) && found.mac == spec.mac;
        if is_ours && found.alias.is_empty() && !found.is_up {
            remove(netlink, found.index)?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Found {
    index: u32,
    name: String,
    alias: String,
    mac: Vec<u8>,
    source: Option<u32>,
    is_up: bool,
    is_macvtap: bool,
}

fn macvtaps(netlink: &mut Netlink) -> io::Result<Vec<Found>> {
    let links = netlink.dump(Message::GetLink(LinkMessage::default()))?;
    let links = links.into_iter().filter_map(|message| match message {
        Message::NewLink(link) => Some(describe(link)),
        _ => None,
    });
    Ok(links.filter(|link| link.is_macvtap).collect())
}

fn describe(link: LinkMessage) -> Found {
    let is_up = link.header.flags.contains(LinkFlags::Up);
    let mut found = Found { index: link.header.index, is_up, ..Found::default() };
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name = name,
            LinkAttribute::IfAlias(alias) => found.alias = alias,
            LinkAttribute::Address(mac) => found.mac = mac,
            LinkAttribute::Link(source) => found.source = Some(source),
            LinkAttribute::LinkInfo(infos) => {
                found.is_macvtap = infos.contains(&LinkInfo::Kind(InfoKind::MacVtap));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Command;

    use super::super::tests::{Lab, ip, within};
    use super::*;

    const OWNER: &str = "0b9f1e5c-7c13-4f0e-9f26-7f1d0a1b2c3d";

    fn spec() -> Direct {
        Direct {
            source: "src0".to_owned(),
            mode: DirectMode::Bridge,
            name: None,
            mac: [0x52, 0x54, 0, 0, 0, 7],
            mtu: Some(1400),
            queues: 2,
            owner: OWNER.to_owned(),
        }
    }

    fn shown(host: &str, arguments: &str) -> String {
        let output =
            Command::new("ip").args(["-n", host, "-d"]).args(arguments.split(' ')).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    #[test]
    fn a_macvtap_is_made_carries_frames_and_is_found_again_by_its_domain() {
        let Some(lab) = Lab::new() else { return };
        let host = lab.host.clone();
        ip(&format!("-n {host} link add src0 type veth peer name peer0"));
        ip(&format!("-n {host} link set src0 up"));
        ip(&format!("-n {host} link set peer0 up"));

        let tap = within(&host, || open(&spec())).unwrap();
        assert_eq!((tap.name.as_str(), tap.queues.len()), ("macvtap0", 2));
        let text = shown(&host, "link show macvtap0");
        for part in ["macvtap mode bridge", "52:54:00:00:00:07", "mtu 1400", OWNER, ",UP"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        let before = shown(&host, "-s link show peer0");
        let mut file = std::fs::File::from(tap.queues.into_iter().next().unwrap());
        let frame = [&[0; 12][..], &[0xff; 6], &spec().mac, &[0x88, 0xb5], &[0; 46]].concat();
        file.write_all(&frame).unwrap();
        assert_ne!(shown(&host, "-s link show peer0"), before, "the frame arrives");

        let taken = Direct { name: Some("macvtap0".into()), mac: [2; 6], ..spec() };
        let error = within(&host, || open(&taken)).unwrap_err().to_string();
        assert!(error.contains("\"macvtap0\"") && error.contains("already"), "{error}");
        let twin = Direct { name: Some("twin".into()), ..spec() };
        let error = within(&host, || open(&twin)).unwrap_err().to_string();
        assert!(error.contains("MAC address"), "{error}");
        let missing = Direct { source: "none0".into(), ..spec() };
        let error = within(&host, || open(&missing)).unwrap_err().to_string();
        assert!(error.contains("no network interface \"none0\""), "{error}");
        assert!(!shown(&host, "link").contains("twin"), "nothing is left of what failed");

        within(&host, || sweep("another", &[])).unwrap();
        within(&host, || sweep(OWNER, &["macvtap0".to_owned()])).unwrap();
        assert!(shown(&host, "link").contains("macvtap0"), "the domain has it");
        within(&host, || sweep(OWNER, &[])).unwrap();
        assert!(!shown(&host, "link").contains("macvtap"));
    }

    #[test]
    fn what_a_death_left_half_made_is_made_anew() {
        let Some(lab) = Lab::new() else { return };
        let host = lab.host.clone();
        // The node's name is the interface's number, which counts by namespace, while /dev is
        // everybody's: the other test's macvtap, at work beside this one, must have another.
        for _ in 0..8 {
            ip(&format!("-n {host} link add gone0 type veth peer name gone1"));
            ip(&format!("-n {host} link delete gone0"));
        }
        ip(&format!("-n {host} link add src0 type veth peer name peer0"));
        ip(&format!("-n {host} link set src0 up"));
        ip(&format!(
            "-n {host} link add link src0 name macvtap0 address 52:54:00:00:00:07 type macvtap mode vepa"
        ));
        let spec = Direct { mode: DirectMode::Passthrough, mtu: None, ..spec() };
        let tap = within(&host, || open(&spec)).unwrap();
        assert_eq!(tap.name, "macvtap0", "no other beside it");
        let text = shown(&host, "link show macvtap0");
        assert!(text.contains("mode passthru") && text.contains("52:54:00:00:00:07"), "{text}");
        let second = Direct { mac: [2; 6], ..spec };
        let error = within(&host, || open(&second)).unwrap_err().to_string();
        assert!(error.contains("passthrough"), "{error}");
    }
}
