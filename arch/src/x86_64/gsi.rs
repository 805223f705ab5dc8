//! Interrupt inputs (GSIs): pins 0–23 of the one IOAPIC, then message-signalled interrupts.
//!
//! ISA lines keep their number, except the PIT, which the IOAPIC has on pin 2. PCI INTx lines lie
//! above the ISA ones, so none is shared with a legacy device.

/// Pins of KVM's in-kernel IOAPIC.
pub const IOAPIC_PINS: u32 = 24;
/// The IOAPIC's id in MADT and in KVM.
pub const IOAPIC_ID: u8 = 0;

/// ISA IRQ 0, seen on IOAPIC pin 2.
pub const PIT: u32 = 0;
pub const PIT_IOAPIC_PIN: u32 = 2;
pub const KEYBOARD: u32 = 1;
/// The channels of the IDE function.
pub const IDE: [u32; 2] = [14, 15];
pub const COM2_COM4: u32 = 3;
pub const COM1_COM3: u32 = 4;
pub const RTC: u32 = 8;
/// System control interrupt of ACPI: level triggered, active high.
pub const SCI: u32 = 9;
pub const MOUSE: u32 = 12;

/// PCI INTx lines: level triggered, active high in KVM, shared by slots.
pub const PCI_INTX_FIRST: u32 = 16;
pub const PCI_INTX_COUNT: u32 = 8;

/// First GSI without an IOAPIC pin: routes of MSI and MSI-X vectors are numbered from here.
pub const MSI_FIRST: u32 = IOAPIC_PINS;
/// KVM's limit on routes (`KVM_MAX_IRQ_ROUTES`).
pub const MAX: u32 = 4096;

/// The line that slot `device` of bus 0 drives by its pin (0 = INTA … 3 = INTD).
///
/// Behind a bridge the pin is swizzled first, bridge by bridge ([`swizzle`]).
#[must_use]
pub const fn pci_intx(device: u8, pin: u8) -> u32 {
    PCI_INTX_FIRST + (device as u32 + pin as u32) % PCI_INTX_COUNT
}

/// The pin of its bridge that a device behind it drives (PCI-to-PCI bridge spec 9.1).
#[must_use]
pub const fn swizzle(device: u8, pin: u8) -> u8 {
    ((device as u16 + pin as u16) % 4) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_and_pin_reaches_a_pci_line_of_the_ioapic() {
        for device in 0..32 {
            for pin in 0..4 {
                let gsi = pci_intx(device, pin);
                assert!((PCI_INTX_FIRST..IOAPIC_PINS).contains(&gsi));
            }
        }
    }

    #[test]
    fn neighbouring_slots_do_not_share_their_first_pin() {
        let lines: Vec<_> = (0..8).map(|device| pci_intx(device, 0)).collect();
        assert!(lines.iter().enumerate().all(|(i, line)| !lines[..i].contains(line)));
    }

    #[test]
    fn four_functions_in_one_slot_behind_a_bridge_get_four_pins() {
        let pins: Vec<_> = (0..4).map(|pin| swizzle(3, pin)).collect();
        assert_eq!(pins, [3, 0, 1, 2]);
    }
}
