//! The GSI routing table: legacy pins to PIC and IOAPIC, and one GSI for each unmasked message.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arch::gsi;
use devices::irq::MsiMessage;
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry,
};
use kvm_ioctls::{Error, VmFd};

/// KVM's own bound on the table, less the entries of the pins.
const MAX_MESSAGES: usize = gsi::MAX as usize - 64;

pub(super) struct Routes {
    fd: Arc<VmFd>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u32,
    free: Vec<u32>,
    messages: BTreeMap<u32, MsiMessage>,
}

impl Routes {
    pub(super) fn new(fd: Arc<VmFd>) -> Self {
        Self { fd, table: Mutex::new(Table { next: gsi::MSI_FIRST, ..Table::default() }) }
    }

    /// A GSI for one message vector; none when KVM's table would overflow.
    pub(super) fn allocate(&self) -> Option<u32> {
        let mut table = self.lock();
        if let Some(gsi) = table.free.pop() {
            return Some(gsi);
        }
        let next = table.next;
        if (next - gsi::MSI_FIRST) as usize >= MAX_MESSAGES {
            return None;
        }
        table.next += 1;
        Some(next)
    }

    pub(super) fn release(&self, gsi: u32) {
        let mut table = self.lock();
        table.messages.remove(&gsi);
        table.free.push(gsi);
    }

    /// Route `gsi` to `message` in the kernel, before this returns.
    pub(super) fn set(&self, gsi: u32, message: MsiMessage) -> Result<(), Error> {
        let mut table = self.lock();
        if table.messages.insert(gsi, message) == Some(message) {
            return Ok(());
        }
        publish(&self.fd, &table.messages)
    }

    pub(super) fn publish(&self) -> Result<(), Error> {
        publish(&self.fd, &self.lock().messages)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn publish(fd: &VmFd, messages: &BTreeMap<u32, MsiMessage>) -> Result<(), Error> {
    let mut entries: Vec<kvm_irq_routing_entry> = Vec::with_capacity(40 + messages.len());
    for pin in 0..16 {
        let (chip, pin_of_chip) =
            if pin < 8 { (KVM_IRQCHIP_PIC_MASTER, pin) } else { (KVM_IRQCHIP_PIC_SLAVE, pin - 8) };
        entries.push(pin_route(pin, chip, pin_of_chip));
    }
    // The timer's interrupt override of every PC (and of our MADT): GSI 0 is IOAPIC pin 2.
    entries.push(pin_route(gsi::PIT, KVM_IRQCHIP_IOAPIC, gsi::PIT_IOAPIC_PIN));
    for pin in (1..gsi::IOAPIC_PINS).filter(|pin| *pin != gsi::PIT_IOAPIC_PIN) {
        entries.push(pin_route(pin, KVM_IRQCHIP_IOAPIC, pin));
    }
    entries.extend(messages.iter().map(|(gsi, message)| message_route(*gsi, *message)));
    let table = KvmIrqRouting::from_entries(&entries).map_err(|_| Error::new(libc::E2BIG))?;
    fd.set_gsi_routing(&table)
}

fn pin_route(gsi: u32, chip: u32, pin: u32) -> kvm_irq_routing_entry {
    let mut entry =
        kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
    entry.u.irqchip.irqchip = chip;
    entry.u.irqchip.pin = pin;
    entry
}

fn message_route(gsi: u32, message: MsiMessage) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
    entry.u.msi.address_lo = message.address as u32;
    entry.u.msi.address_hi = (message.address >> 32) as u32;
    entry.u.msi.data = message.data;
    entry
}
