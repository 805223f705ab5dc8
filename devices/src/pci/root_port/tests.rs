use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::irq::MsiVector;
use crate::pci::msix::tests::Controller;
use crate::sync::Lock;

struct Rig {
    controller: Controller,
    port: RootPort,
    powered_off: Arc<AtomicU32>,
}

impl Rig {
    fn new() -> Self {
        let controller = Controller::default();
        let port = RootPort::new("pci.1", 5, Some(&controller)).unwrap();
        let powered_off = Arc::new(AtomicU32::new(0));
        let count = powered_off.clone();
        port.on_power_off(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        Self { controller, port, powered_off }
    }

    fn write(&self, register: u16, value: u16) {
        let _ = self.port.config_write(self.port.express + register, &value.to_le_bytes());
    }

    fn read(&self, register: u16) -> u16 {
        self.port.config.u16(self.port.express + register)
    }

    fn interrupts(&self) -> u64 {
        let vectors = self.controller.0.hold();
        vectors[0].event().read().unwrap_or(0)
    }
}

const ENABLED: u16 = INTERRUPT_ENABLE | EVENT_BUTTON | EVENT_PRESENCE | ATTENTION_INDICATOR_OFF;

#[test]
fn a_plugged_device_is_announced_once() {
    let rig = Rig::new();
    rig.write(SLOT_CONTROL, ENABLED | POWER_INDICATOR_OFF | POWER_OFF);
    rig.port.set_present(true);
    rig.port.set_present(true);
    assert_eq!(rig.interrupts(), 1);
    assert_eq!(rig.read(SLOT_STATUS), EVENT_PRESENCE | EVENT_LINK | PRESENT);
    assert_eq!(rig.read(LINK_STATUS) & LINK_ACTIVE, LINK_ACTIVE);
    rig.write(SLOT_STATUS, EVENT_PRESENCE | EVENT_LINK);
    assert_eq!(rig.read(SLOT_STATUS), PRESENT);
}

/// Linux enables neither presence nor anything else where there is a button.
#[test]
fn a_driver_that_looks_at_the_link_alone_hears_of_a_device() {
    let rig = Rig::new();
    rig.write(SLOT_CONTROL, INTERRUPT_ENABLE | EVENT_BUTTON | LINK_ENABLE | POWER_OFF);
    rig.port.set_present(true);
    assert_eq!(rig.interrupts(), 1);
    let other = Rig::new();
    other.write(SLOT_CONTROL, INTERRUPT_ENABLE | EVENT_BUTTON | POWER_OFF);
    other.port.set_present(true);
    assert_eq!(other.interrupts(), 0);
}

#[test]
fn an_event_from_before_interrupts_were_enabled_is_told_then() {
    let rig = Rig::new();
    rig.port.set_present(true);
    assert_eq!(rig.interrupts(), 0);
    rig.write(SLOT_CONTROL, ENABLED);
    assert_eq!(rig.interrupts(), 1);
}

#[test]
fn removal_waits_until_the_guest_powers_the_slot_off() {
    let rig = Rig::new();
    rig.port.populate();
    rig.write(SLOT_CONTROL, ENABLED | POWER_INDICATOR_ON);
    rig.port.request_removal();
    assert_eq!((rig.interrupts(), rig.powered_off.load(Ordering::Relaxed)), (1, 0));
    rig.write(SLOT_CONTROL, ENABLED | POWER_INDICATOR_ON | POWER_OFF);
    assert_eq!(rig.powered_off.load(Ordering::Relaxed), 0, "its indicator is on still");
    rig.write(SLOT_CONTROL, ENABLED | POWER_INDICATOR_OFF | POWER_OFF);
    rig.write(SLOT_CONTROL, ENABLED | POWER_INDICATOR_OFF | POWER_OFF);
    assert_eq!(rig.powered_off.load(Ordering::Relaxed), 1);
}

#[test]
fn powering_off_an_empty_slot_removes_nothing() {
    let rig = Rig::new();
    rig.write(SLOT_CONTROL, ENABLED | POWER_INDICATOR_ON);
    rig.write(SLOT_CONTROL, ENABLED | POWER_INDICATOR_OFF | POWER_OFF);
    assert_eq!(rig.powered_off.load(Ordering::Relaxed), 0);
}

#[test]
fn reset_keeps_a_present_device_powered() {
    let rig = Rig::new();
    rig.port.populate();
    rig.write(SLOT_CONTROL, ENABLED | POWER_INDICATOR_OFF | POWER_OFF);
    rig.port.reset();
    assert!(rig.port.is_present());
    assert_eq!(rig.read(SLOT_CONTROL) & (POWER_OFF | POWER_INDICATOR), POWER_INDICATOR_ON);
}

/// The machine's reset is that of the hierarchy, too, which resets each function's configuration space.
#[test]
fn a_reset_in_whatever_order_leaves_what_came_and_what_went_as_it_is() {
    let rig = Rig::new();
    for present in [true, false] {
        rig.port.set_present(present);
        for port_first in [true, false] {
            if port_first {
                rig.port.reset();
            }
            rig.port.config().reset();
            if !port_first {
                rig.port.reset();
            }
            assert_eq!(rig.port.is_present(), present);
            let link = rig.port.config.u16(rig.port.express + LINK_STATUS) & LINK_ACTIVE != 0;
            assert_eq!(link, present);
            let power = rig.read(SLOT_CONTROL) & (POWER_OFF | POWER_INDICATOR);
            let off = POWER_OFF | POWER_INDICATOR_OFF;
            assert_eq!(power, if present { POWER_INDICATOR_ON } else { off });
            assert_eq!(rig.read(SLOT_STATUS) & EVENTS, 0, "nobody is told of anything");
        }
    }
}

#[test]
fn a_port_without_hotplug_has_a_slot_and_no_interrupt() {
    let port = RootPort::new("pci.1", 5, None).unwrap();
    port.populate();
    port.request_removal();
    assert_eq!(port.config.u16(port.express + SLOT_STATUS), PRESENT);
    assert!(port.config.bars().is_empty());
    let capabilities = port.config.u32(port.express + SLOT_CAPABILITIES);
    assert_eq!((capabilities >> SLOT_NUMBER_SHIFT, capabilities & 0x7f), (5, 0));
}

#[test]
fn a_port_takes_no_io_window() {
    let Rig { port, .. } = Rig::new();
    let _ = port.config_write(0x1c, &[0xf0, 0xf0]);
    let _ = port.config_write(0x30, &[0xff; 4]);
    assert_eq!((port.config.u16(0x1c), port.config.u32(0x30)), (0, 0));
}

#[test]
fn a_saved_port_comes_back_and_keeps_to_its_slot() {
    let rig = Rig::new();
    rig.port.set_present(true);
    rig.write(SLOT_CONTROL, ENABLED | POWER_INDICATOR_ON);
    let _ = rig.port.config_write(0x18, &[0, 5, 5]);
    let other = Rig::new();
    other.port.restore(&rig.port.save().unwrap()).unwrap();
    assert_eq!(other.port.config.u16(0x19), 0x0505);
    assert_eq!(other.read(SLOT_CONTROL), rig.read(SLOT_CONTROL));
    assert!(!other.port.is_present(), "the machine says what is in the slot");
    let plain = RootPort::new("pci.1", 5, None).unwrap();
    assert!(plain.restore(&rig.port.save().unwrap()).is_err());
}
