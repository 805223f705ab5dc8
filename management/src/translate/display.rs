//! The graphics card and the VNC server of a definition in the VMM's configuration.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use vmm_protocol::config::{Fd, Video, VideoModel, Vnc, VncPassword, VncSharing, VncTls};
use xml::YesNo;
use xml::device::Devices;
use xml::device::graphics::{self, Graphics, Listen, ListenAddress, ListenSocket, SharePolicy};
use xml::device::video::{self, VideoModelType};

/// What the VMM takes; its saved states hold it.
pub(super) const MOST_MEMORY_KIB: u32 = 32 << 10;
const LEAST_MEMORY_KIB: u32 = 1 << 10;
const MEMORY_KIB: u32 = 16 << 10;
const RESOLUTION: (u16, u16) = (1280, 800);
/// Ports that are tried, the first that is free wins.
const PORTS: std::ops::RangeInclusive<u16> = 5900..=65535;

/// Where viewers come in, as it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OpenVnc {
    pub listener: Option<Fd>,
    pub port: Option<u16>,
    /// Of a socket of our own choice.
    pub socket: Option<PathBuf>,
    pub tls: Option<VncTls>,
}

/// Where viewers shall come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp {
        address: IpAddr,
        ports: std::ops::RangeInclusive<u16>,
    },
    /// None: a path of our own choice.
    Unix(Option<PathBuf>),
    /// Only through the API.
    Nowhere,
}

/// The one graphics card that a machine has.
pub(crate) fn card(devices: &Devices) -> Option<&video::Video> {
    devices.videos.first().filter(|video| kind(video) != VideoModelType::None)
}

/// It is on no bus.
pub(super) fn is_ramfb(video: &video::Video) -> bool {
    kind(video) == VideoModelType::Ramfb
}

/// The definition says that there is none.
pub(super) fn no_card(devices: &Devices) -> bool {
    devices.videos.first().is_some_and(|video| kind(video) == VideoModelType::None)
}

/// The one VNC server.
pub(crate) fn server(devices: &Devices) -> Option<&graphics::Vnc> {
    devices.graphics.iter().find_map(|graphics| match graphics {
        Graphics::Vnc(vnc) => Some(vnc),
        _ => None,
    })
}

fn kind(video: &video::Video) -> VideoModelType {
    video.model.as_ref().map_or(VideoModelType::Vga, |model| model.kind)
}

/// Whether a card's `vram` is about the memory of a VGA.
pub(super) fn is_sized(kind: VideoModelType) -> bool {
    matches!(kind, VideoModelType::Vga | VideoModelType::Bochs | VideoModelType::Cirrus)
}

fn model_of(kind: VideoModelType) -> VideoModel {
    if kind == VideoModelType::Bochs { VideoModel::Bochs } else { VideoModel::Vga }
}

/// The file with the BIOS of a card, as SeaBIOS's packages call it.
pub(crate) fn option_rom(video: &video::Video) -> &'static str {
    match model_of(kind(video)) {
        _ if is_ramfb(video) => "vgabios-ramfb.bin",
        VideoModel::Vga => "vgabios-stdvga.bin",
        VideoModel::Bochs => "vgabios-bochs-display.bin",
    }
}

pub(super) fn video(video: &video::Video, rom: Option<Fd>) -> Video {
    let kind = kind(video);
    let model = video.model.as_ref();
    let memory = model.and_then(|model| model.vram).filter(|_| is_sized(kind));
    let memory = memory.unwrap_or(MEMORY_KIB).clamp(LEAST_MEMORY_KIB, MOST_MEMORY_KIB);
    let resolution = model.and_then(|model| model.resolution).and_then(|resolution| {
        Some((u16::try_from(resolution.x).ok()?, u16::try_from(resolution.y).ok()?))
    });
    Video {
        model: model_of(kind),
        // Up to the next power of two, which the bound is.
        memory: u64::from(memory.next_power_of_two()) << 10,
        resolution: resolution.unwrap_or(RESOLUTION),
        rom,
    }
}

pub(super) fn vnc(vnc: &graphics::Vnc, open: &OpenVnc) -> Vnc {
    Vnc {
        listeners: open.listener.into_iter().collect(),
        password: vnc.password.as_ref().map(|text| VncPassword {
            text: text.clone(),
            valid_to: vnc.password_valid_to.as_deref().and_then(valid_to),
        }),
        tls: open.tls,
        sharing: match vnc.share_policy {
            None | Some(SharePolicy::AllowExclusive) => VncSharing::AllowExclusive,
            Some(SharePolicy::ForceShared) => VncSharing::ForceShared,
            Some(SharePolicy::Ignore) => VncSharing::Ignore,
        },
    }
}

pub(crate) fn place(vnc: &graphics::Vnc) -> Place {
    let address = match vnc.listens.first() {
        Some(Listen::Socket(ListenSocket { socket })) => {
            return Place::Unix(socket.clone().or_else(|| vnc.socket.clone()));
        }
        Some(Listen::None(_)) => return Place::Nowhere,
        Some(Listen::Address(ListenAddress { address })) => address.as_deref(),
        Some(Listen::Network(_)) | None if vnc.socket.is_some() => {
            return Place::Unix(vnc.socket.clone());
        }
        Some(Listen::Network(_)) | None => vnc.listen.as_deref(),
    };
    let address = address.and_then(|address| address.parse().ok());
    let auto = vnc.autoport == Some(YesNo::Yes);
    let port = vnc.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0 && !auto);
    Place::Tcp {
        address: address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ports: port.map_or(PORTS, |port| port..=port),
    }
}

/// Seconds since the epoch, of a time as libvirt writes it.
pub(super) fn valid_to(text: &str) -> Option<u64> {
    let time: jiff::civil::DateTime = text.trim_end_matches('Z').parse().ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(time.timestamp().as_second()).ok()
}

/// Show where viewers really come in.
pub(super) fn show(vnc: &mut graphics::Vnc, open: &OpenVnc) {
    if let Some(port) = open.port {
        vnc.port = Some(port.into());
        let Place::Tcp { address, .. } = place(vnc) else { return };
        let address = Some(address.to_string());
        vnc.listen.clone_from(&address);
        if let Some(Listen::Address(listen)) = vnc.listens.first_mut() {
            listen.address = address;
        }
    }
    if let Some(socket) = &open.socket {
        vnc.socket = Some(socket.clone());
        if let Some(Listen::Socket(listen)) = vnc.listens.first_mut() {
            listen.socket = Some(socket.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use xml::DomainDef;

    use super::*;

    fn devices(devices: &str) -> Devices {
        let xml = format!(
            "<domain type='kvm'><name>a</name><memory>1</memory><os><type>hvm</type></os>\
             <devices>{devices}</devices></domain>"
        );
        DomainDef::parse(&xml).unwrap().value.devices
    }

    fn place_of(graphics: &str) -> Place {
        place(server(&devices(graphics)).unwrap())
    }

    #[test]
    fn viewers_come_in_where_libvirt_would_have_them() {
        let tcp = |address: &str, ports| Place::Tcp { address: address.parse().unwrap(), ports };
        let here = "127.0.0.1";
        for (graphics, expected) in [
            ("<graphics type='vnc'/>", tcp(here, PORTS)),
            ("<graphics type='vnc' port='-1'/>", tcp(here, PORTS)),
            ("<graphics type='vnc' port='5905'/>", tcp(here, 5905..=5905)),
            ("<graphics type='vnc' port='5905' autoport='yes'/>", tcp(here, PORTS)),
            ("<graphics type='vnc' listen='0.0.0.0'/>", tcp("0.0.0.0", PORTS)),
            (
                "<graphics type='vnc'><listen type='address' address='::1'/></graphics>",
                tcp("::1", PORTS),
            ),
            ("<graphics type='vnc' socket='/run/a'/>", Place::Unix(Some("/run/a".into()))),
            ("<graphics type='vnc'><listen type='socket'/></graphics>", Place::Unix(None)),
            ("<graphics type='vnc'><listen type='none'/></graphics>", Place::Nowhere),
        ] {
            assert_eq!(place_of(graphics), expected, "{graphics}");
        }
    }

    #[test]
    fn cards_have_the_memory_and_the_model_that_can_be_had() {
        let card_of = |model: &str| {
            let devices = devices(&format!("<video><model {model}/></video>"));
            card(&devices).map(|card| video(card, None))
        };
        let vga = card_of("type='vga' vram='9000'").unwrap();
        assert_eq!((vga.model, vga.memory), (VideoModel::Vga, 16 << 20));
        let large = card_of("type='bochs' vram='4000000000'").unwrap();
        assert_eq!((large.model, large.memory), (VideoModel::Bochs, 32 << 20));
        let qxl = card_of("type='qxl' vram='65536'").unwrap();
        assert_eq!((qxl.model, qxl.memory), (VideoModel::Vga, 16 << 20));
        assert_eq!(card_of("type='none'"), None);
    }

    #[test]
    fn a_password_and_its_time_reach_the_vmm() {
        let devices = devices(
            "<graphics type='vnc' passwd='x' passwdValidTo='2026-01-01T00:00:01' \
             sharePolicy='force-shared'/>",
        );
        let config = vnc(server(&devices).unwrap(), &OpenVnc::default());
        let expected = VncPassword { text: "x".into(), valid_to: Some(1_767_225_601) };
        assert_eq!(config.password, Some(expected));
        assert_eq!(config.sharing, VncSharing::ForceShared);
        assert_eq!(valid_to("soon"), None);
    }

    #[test]
    fn a_live_definition_says_the_port() {
        let mut devices = devices("<graphics type='vnc' port='-1' autoport='yes'/>");
        let Graphics::Vnc(vnc) = &mut devices.graphics[0] else { panic!() };
        vnc.listens.push(Listen::Address(ListenAddress { address: None }));
        show(vnc, &OpenVnc { port: Some(5907), ..OpenVnc::default() });
        assert_eq!((vnc.port, vnc.listen.as_deref()), (Some(5907), Some("127.0.0.1")));
        assert_eq!(vnc.autoport, Some(YesNo::Yes));
    }
}
