//! The board's own registers: serial port, clock, keyboard, ACPI, hotplug slots, and configuration space.

use std::sync::Arc;
use std::time::Duration;

use super::Script;
use super::board::{Nobody, Still};
use crate::bus::{Bus, BusDevice};
use crate::chipset::{AcpiPm, EventDevice, I8042, MemorySizes, PowerButton as _, Rtc, Serial};
use crate::component::Component;
use crate::i6300esb::I6300esb;
use crate::pci::{BusId, Chip, PciAddress, PciRoot, PlainBridge, RootPort, SlotEvent, Slots};

/// ```text
/// steps: u8 device << 4 | what   what 0–6: u8 offset, u8 width % 9, bytes written, then read back
///        7: time passes   8: something happens   9: saved and restored   10: reset   others: read
/// ```
pub fn chipset(data: &[u8]) {
    let clock = Arc::new(Still::default());
    let Ok(board) = Board::new(&clock) else { return };
    let mut script = Script(data);
    while !script.is_over() {
        let step = script.byte();
        let (device, component) = &board.devices[usize::from(step >> 4) % board.devices.len()];
        match step & 0xf {
            7 => clock.advance(Duration::from_micros(script.number().into())),
            8 => board.happens(script.byte()),
            9 => {
                component.pause();
                let saved = component.save().expect("a paused device can be saved");
                component.restore(&saved).expect("what was saved restores");
                component.resume();
            }
            10 => component.reset(),
            what => {
                let offset = u64::from(script.byte());
                let width = usize::from(script.byte() % 9);
                let mut bytes = [0; 8];
                if what < 7 {
                    script.fill(&mut bytes[..width]);
                    let _ = device.write(offset, &bytes[..width]);
                }
                device.read(offset, &mut bytes[..width]);
            }
        }
    }
}

type Device = (Arc<dyn BusDevice>, Arc<dyn Component>);

struct Board {
    devices: Vec<Device>,
    pm: Arc<AcpiPm>,
    events: Arc<EventDevice>,
    slots: Arc<Slots>,
}

struct NoEvent;

impl SlotEvent for NoEvent {
    fn slots_changed(&self) {}
}

impl Board {
    fn new(clock: &Arc<Still>) -> Result<Self, Box<dyn std::error::Error>> {
        let nobody = || Arc::new(Nobody);
        let serial = Serial::new("serial0", nobody(), nobody())?;
        let memory = MemorySizes { low: 1 << 30, high: 1 << 30 };
        let rtc = Arc::new(Rtc::new(0, memory, 4, nobody(), clock.clone())?);
        let keyboard = Arc::new(I8042::with_devices(nobody(), nobody()));
        let pm = Arc::new(AcpiPm::new(nobody(), clock.clone()));
        let events = Arc::new(EventDevice::new(nobody()));
        let slots = Arc::new(Slots::new(Arc::new(NoEvent)));
        slots.on_eject(|slot| assert!(slot < 32));
        let devices: Vec<Device> = vec![
            (serial.clone(), serial),
            (rtc.clone(), rtc),
            (pm.clone(), pm.clone()),
            (events.clone(), events.clone()),
            (slots.clone(), slots.clone()),
        ];
        let ports = keyboard.ports().map(|(_, port)| -> Device { (port, keyboard.clone()) });
        let devices = devices.into_iter().chain(ports).collect();
        Ok(Self { devices, pm, events, slots })
    }

    fn happens(&self, what: u8) {
        match what % 5 {
            0 => self.pm.press(),
            1 => self.pm.raise_gpe(what),
            2 => self.events.press(),
            3 => self.slots.plugged(what),
            _ => self.slots.request_removal(what),
        }
    }
}

const WINDOW: u64 = 0x1_0000_0000;

/// A board's configuration space: bridges that lead anywhere, BARs that lie anywhere.
/// ```text
/// steps: u8 what % 8   0–3: u8 bus, u8 device and function, u16 offset, u8 width, 8 bytes written, then read
///        4: 4 bytes of address, read in memory or ports   5: behind the port: comes, goes, is asked to go
///        6: saved and restored   7: looked through, or reset
/// ```
pub fn pci(data: &[u8]) {
    let buses = ["memory", "port"].map(|name| Arc::new(Bus::new(name)));
    let [memory, ports] = buses;
    let root = PciRoot::new(memory.clone(), ports.clone(), vec![(0, 1 << 20)], None);
    let Ok(port) = RootPort::new("port1", 1, Some(&Nobody)) else { return };
    let port = Arc::new(port);
    let Ok(watchdog) = I6300esb::new("watchdog0", Arc::new(Still::default()), Box::new(|| {}))
    else {
        return;
    };
    let add = |bus, slot, function| root.add(bus, slot, 0, function).expect("the place is free");
    add(BusId::ROOT, 0, Arc::new(Chip::q35_host_bridge(None)));
    let behind = add(BusId::ROOT, 2, port.clone());
    let bridge = add(BusId::ROOT, 3, Arc::new(PlainBridge::pci_bridge("bridge")));
    add(bridge, 1, Arc::new(watchdog));
    let mut script = Script(data);
    while !script.is_over() {
        match script.byte() % 8 {
            4 => {
                let at = u64::from(script.number());
                memory.read(at % WINDOW, &mut [0; 4]);
                ports.read(at & 0xffff, &mut [0]);
            }
            5 => match script.byte() % 5 {
                0 => port.populate(),
                1 => port.set_present(true),
                2 => port.set_present(false),
                3 => port.request_removal(),
                _ => root.remove(behind, 0, 0),
            },
            6 => {
                for component in [&*root as &dyn Component, &*port] {
                    let saved = component.save().expect("it can be saved at any time");
                    component.restore(&saved).expect("what was saved restores");
                }
            }
            7 if script.byte() & 1 == 0 => drop(root.survey()),
            7 => root.reset(),
            _ => {
                let (bus, place) = (script.byte() % 4, script.byte());
                let address = PciAddress::new(bus, place >> 3, place & 7);
                let offset = script.short() & 0xfff;
                let width = 1 << (script.byte() % 4);
                let mut bytes = [0; 8];
                script.fill(&mut bytes[..width]);
                let _ = root.config_write(address, offset, &bytes[..width]);
                root.config_read(address, offset, &mut bytes[..width]);
            }
        }
    }
}
