//! What can be had of a screen: graphics cards, VNC, keyboards and pointers.

use std::net::IpAddr;

use xml::YesNo;
use xml::device::graphics::{Connected, Graphics, Listen, Vnc};
use xml::device::input::{InputBus, InputType};
use xml::device::video::{Video, VideoModelType};
use xml::device::{Devices, Input};

use super::display;
use super::report::Report;

/// libvirt's: display 0.
const FIRST_PORT: i32 = 5900;

pub(super) fn check(devices: &Devices, report: &mut Report<'_>) {
    let numbered = |name: &str, number: usize| format!("/domain/devices/{name}[{number}]");
    for (number, video) in (1..).zip(&devices.videos) {
        let path = numbered("video", number);
        if number == 1 {
            check_card(video, &path, report);
        } else {
            report.warn(&path, "there is one graphics card; this one is left out");
        }
    }
    let mut servers = 0;
    for (number, graphics) in (1..).zip(&devices.graphics) {
        let path = numbered("graphics", number);
        match graphics {
            Graphics::Vnc(_) if display::no_card(devices) => {
                report.invalid(&path, "there is no graphics card to show: its model is none");
            }
            Graphics::Vnc(vnc) if servers == 0 => {
                servers += 1;
                check_vnc(vnc, &path, report);
            }
            Graphics::Vnc(_) => report.warn(&path, "there is one VNC server; this one is left out"),
            Graphics::Spice(_) => {
                let message = "there is no SPICE; the screen can be seen by VNC (type='vnc'), and \
                               through the API";
                report.warn(&path, message);
            }
            _ => report.warn(&path, "the screen can be seen by VNC, and through the API"),
        }
    }
    for (number, input) in (1..).zip(&devices.inputs) {
        check_input(input, &numbered("input", number), report);
    }
}

fn check_card(video: &Video, path: &str, report: &mut Report<'_>) {
    let Some(model) = &video.model else { return };
    let at = |name: &str| format!("{path}/model/{name}");
    match model.kind {
        VideoModelType::Vga | VideoModelType::Bochs | VideoModelType::None => {}
        VideoModelType::Ramfb => {
            report.warn_if(
                video.address.is_some(),
                &format!("{path}/address"),
                "ramfb is on no bus",
            );
            let resolution = model.resolution.is_some();
            report.warn_if(
                resolution,
                &at("resolution"),
                "the size of a ramfb; firmware chooses it",
            );
        }
        other => {
            let message = format!("the graphics card {other}: the guest gets a plain VGA");
            report.warn(&at("@type"), message);
        }
    }
    let most = display::MOST_MEMORY_KIB;
    let memory = model.vram.filter(|vram| *vram > most && display::is_sized(model.kind));
    if let Some(vram) = memory {
        let message = format!("video memory of {vram} KiB: the guest gets {most}");
        report.warn(&at("@vram"), message);
    }
    let several = model.heads.is_some_and(|heads| heads > 1);
    report.warn_if(several, &at("@heads"), "more than one monitor");
    let faster = model.acceleration.as_ref().is_some_and(|acceleration| {
        acceleration.accel3d == Some(YesNo::Yes) || acceleration.accel2d == Some(YesNo::Yes)
    });
    report.warn_if(faster, &at("acceleration"), "accelerated drawing");
}

fn check_vnc(vnc: &Vnc, path: &str, report: &mut Report<'_>) {
    let at = |name: &str| format!("{path}/{name}");
    let websocket = vnc.websocket.is_some();
    let message = "a WebSocket of its own: the API has one (/v1/domains/…/vnc)";
    report.warn_if(websocket, &at("@websocket"), message);
    let power = vnc.power_control == Some(YesNo::Yes);
    report.warn_if(power, &at("@powerControl"), "power control by viewers");
    let keymap = vnc.keymap.as_deref().filter(|keymap| *keymap != "en-us");
    if let Some(keymap) = keymap {
        let message = format!("the keymap {keymap}: viewers that send scan codes need none");
        report.warn(&at("@keymap"), message);
    }
    report.warn_if(vnc.audio.is_some(), &at("audio"), "sound through VNC");
    let kept = !matches!(vnc.connected, None | Some(Connected::Keep));
    report.warn_if(kept, &at("@connected"), "what becomes of viewers when the password changes");
    let auto = vnc.autoport == Some(YesNo::Yes) || vnc.port == Some(-1);
    let port = vnc.port.filter(|_| !auto);
    if port.is_some_and(|port| !(FIRST_PORT..=65535).contains(&port)) {
        report.invalid(&at("@port"), "a VNC port is one from 5900 to 65535, or -1");
    }
    if let Some(time) = &vnc.password_valid_to
        && display::valid_to(time).is_none()
    {
        report.invalid(&at("@passwdValidTo"), "a time is written as 2026-12-31T23:59:59, in UTC");
    }
    if vnc.listens.len() > 1 {
        report.refuse(&at("listen[2]"), "VNC at several places");
    }
    let address = match vnc.listens.first() {
        None => vnc.listen.as_ref(),
        Some(Listen::Address(address)) => address.address.as_ref(),
        Some(Listen::Network(_)) => {
            report
                .refuse(&at("listen/@type"), "VNC at the address of a network; use type='address'");
            None
        }
        Some(Listen::Socket(_) | Listen::None(_)) => None,
    };
    if let Some(address) = address
        && address != "localhost"
        && address.parse::<IpAddr>().is_err()
    {
        let message = format!("{address:?} as the place where VNC listens; use an IP address");
        report.refuse(&at("listen/@address"), message);
    }
}

fn check_input(input: &Input, path: &str, report: &mut Report<'_>) {
    match (input.bus, input.kind) {
        (None | Some(InputBus::Ps2), InputType::Keyboard | InputType::Mouse)
        | (Some(InputBus::Virtio), _) => {}
        (bus, kind) => {
            let bus = bus.map_or_else(|| "usb".to_owned(), |bus| bus.to_string());
            let message = format!(
                "a {kind} on {bus} is left out; a guest with a screen has a PS/2 keyboard and mouse, \
                 and there is bus='virtio'"
            );
            report.warn(path, message);
        }
    }
}
