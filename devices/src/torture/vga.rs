//! A graphics card under a driver that sets any mode, and somebody who looks at what it shows.

use super::Script;
use super::board::ram;
use super::firmware::Unmapped;
use super::function::Function;
use crate::bus::Bus;
use crate::display::vga::{Model, Vga, VgaParts};
use crate::display::{Scanout as _, Surface};

const MEMORY: u64 = 1 << 20;
/// Frame buffer and registers.
const BARS: [(u8, u64); 2] = [(0, MEMORY), (2, 0x1000)];
/// Where the registers of a VGA begin, and those that choose a mode of the Bochs display.
const PORTS: u64 = 0x3b0;
const DISPI: u64 = 0x1ce;

/// ```text
/// u8 model
/// steps: u8 what % 12   below 7: as every function   7: u8 port, u8 width, 4 bytes written, then read
///        8: u16 register of the display, u16 value   9: u16 in the legacy window, 4 bytes   others: it is looked at
/// ```
/// # Panics
/// When what it shows is larger than any picture.
pub fn vga(data: &[u8]) {
    let mut script = Script(data);
    let model = if script.byte() & 1 == 0 { Model::Vga } else { Model::Bochs };
    let parts = VgaParts {
        id: "video0",
        model,
        memory: MEMORY,
        resolution: (1024, 768),
        rom: None,
        express: None,
        mapper: &Unmapped,
    };
    let Ok(card) = Vga::new(parts) else { return };
    let (ports, memory) = (Bus::new("port"), Bus::new("memory"));
    for (base, len, device) in card.ports() {
        ports.insert(base, len, device).expect("nothing else is there");
    }
    if let Some((base, len, device)) = card.legacy_window() {
        memory.insert(base, len, device).expect("nothing else is there");
    }
    let ram = ram();
    let everyone = Function::new(&*card, &ram, &BARS);
    let mut surface = Surface::new();
    while !script.is_over() {
        match script.byte() % 12 {
            what @ 0..7 => everyone.step(what, &mut script),
            7 => {
                let port = PORTS + u64::from(script.byte() % 0x30);
                let width = 1 << (script.byte() % 3);
                let mut bytes = [0; 4];
                script.fill(&mut bytes);
                let _ = ports.write(port, &bytes[..width]);
                ports.read(port, &mut bytes[..width]);
            }
            8 => {
                let (register, value) = (script.short(), script.short());
                let _ = ports.write(DISPI, &register.to_le_bytes());
                let _ = ports.write(DISPI + 1, &value.to_le_bytes());
                ports.read(DISPI + 1, &mut [0; 2]);
            }
            9 => {
                let at = Vga::LEGACY_WINDOW.start + u64::from(script.short());
                let mut bytes = [0; 4];
                script.fill(&mut bytes);
                let _ = memory.write(at, &bytes);
                memory.read(at, &mut bytes);
            }
            _ => {
                card.draw(&mut surface, script.byte() & 1 != 0);
                let (width, height) = (surface.width(), surface.height());
                assert!(width <= 16_384 && height <= 16_384, "{width} × {height}");
            }
        }
    }
    card.draw(&mut surface, true);
    everyone.end();
}
