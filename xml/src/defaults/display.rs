//! What libvirt fills in for a screen: a graphics card behind every `<graphics>`, a keyboard and a mouse, and where
//! VNC listens.

use crate::device::graphics::{Graphics, Listen, ListenAddress, ListenSocket, Vnc};
use crate::device::input::{Input, InputBus, InputType};
use crate::device::video::{Video, VideoModel, VideoModelType};
use crate::domain::DomainDef;
use crate::value::YesNo;

/// KiB.
const VIDEO_MEMORY: u32 = 16 << 10;

impl DomainDef {
    pub(super) fn complete_display(&mut self) {
        let devices = &mut self.devices;
        for graphics in &mut devices.graphics {
            if let Graphics::Vnc(vnc) = graphics {
                complete_vnc(vnc);
            }
        }
        for input in &mut devices.inputs {
            input.bus.get_or_insert(match input.kind {
                InputType::Tablet => InputBus::Usb,
                InputType::Passthrough | InputType::Evdev => InputBus::Virtio,
                InputType::Mouse | InputType::Keyboard => InputBus::Ps2,
            });
        }
        if !devices.graphics.is_empty() {
            if devices.videos.is_empty() {
                devices.videos.push(Video::default());
            }
            for kind in [InputType::Mouse, InputType::Keyboard] {
                let there = |input: &Input| input.kind == kind && input.bus == Some(InputBus::Ps2);
                if !devices.inputs.iter().any(there) {
                    devices.inputs.push(Input::ps2(kind));
                }
            }
        }
        for (index, video) in devices.videos.iter_mut().enumerate() {
            let model = video.model.get_or_insert_with(|| VideoModel::new(VideoModelType::Vga));
            complete_model(model, index == 0);
        }
    }
}

fn complete_model(model: &mut VideoModel, first: bool) {
    use VideoModelType::{Bochs, Cirrus, None as NoCard, Qxl, Vga};
    if model.kind == NoCard {
        return;
    }
    match model.kind {
        Vga | Bochs | Cirrus => {
            model.vram.get_or_insert(VIDEO_MEMORY);
        }
        Qxl => {
            model.ram.get_or_insert(4 * VIDEO_MEMORY);
            model.vram.get_or_insert(4 * VIDEO_MEMORY);
            model.vgamem.get_or_insert(VIDEO_MEMORY);
        }
        _ => {}
    }
    model.heads.get_or_insert(1);
    if first {
        model.primary.get_or_insert(YesNo::Yes);
    }
}

/// A port of the manager's choice if none is named, and the listening place as an element too.
fn complete_vnc(vnc: &mut Vnc) {
    if vnc.listens.is_empty() {
        vnc.listens.push(match &vnc.socket {
            Some(socket) => Listen::Socket(ListenSocket { socket: Some(socket.clone()) }),
            None => Listen::Address(ListenAddress { address: vnc.listen.clone() }),
        });
    }
    match &vnc.listens[0] {
        Listen::Address(ListenAddress { address }) => vnc.listen.clone_from(address),
        Listen::Network(_) => {}
        Listen::Socket(ListenSocket { socket }) => {
            vnc.socket.clone_from(socket);
            (vnc.port, vnc.autoport) = (None, None);
            return;
        }
        Listen::None(_) => {
            (vnc.port, vnc.autoport) = (None, None);
            return;
        }
    }
    let chosen = vnc.port.filter(|port| *port > 0 && vnc.autoport != Some(YesNo::Yes));
    vnc.port = Some(chosen.unwrap_or(-1));
    vnc.autoport = Some(if chosen.is_some() { YesNo::No } else { YesNo::Yes });
}
