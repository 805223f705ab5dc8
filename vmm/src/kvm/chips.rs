//! State of what KVM emulates for the whole machine: PICs, IOAPIC, PIT, and the guest's clock.

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_clock_data, kvm_irqchip,
    kvm_pit_state2,
};
use serde::{Deserialize, Serialize};

use super::{KvmError, Vm, failed};

const CHIPS: [u32; 3] = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChipsState {
    /// In the order of [`CHIPS`].
    irqchips: Vec<kvm_irqchip>,
    pit: kvm_pit_state2,
    pub(crate) clock: Nanoseconds,
}

/// The guest's kvmclock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nanoseconds(pub u64);

/// A redirection entry that passes on what the PICs ask for, unmasked: delivery mode ExtINT.
const EXT_INT: u64 = 0b111 << 8;

impl Vm {
    /// Virtual wire mode by way of the IOAPIC (MultiProcessor spec 3.6.2.2), which is how firmware
    /// leaves a PC: the PICs on pin 0. Linux looks for that pin, and stops at the first.
    pub fn wire_pics_through_ioapic(&self) -> Result<(), KvmError> {
        let mut chip = kvm_irqchip { chip_id: KVM_IRQCHIP_IOAPIC, ..Default::default() };
        self.fd().get_irqchip(&mut chip).map_err(failed("read the interrupt controllers"))?;
        // SAFETY: KVM filled in the IOAPIC's form of the union, for that is what `chip_id` asks for;
        // and all forms are plain integers, of which every value is valid.
        unsafe { chip.chip.ioapic.redirtbl[0].bits = EXT_INT };
        self.fd().set_irqchip(&chip).map_err(failed("set the interrupt controllers"))
    }

    pub fn save_chips(&self) -> Result<ChipsState, KvmError> {
        let mut irqchips = Vec::with_capacity(CHIPS.len());
        for chip_id in CHIPS {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            self.fd().get_irqchip(&mut chip).map_err(failed("read the interrupt controllers"))?;
            irqchips.push(chip);
        }
        let pit = self.fd().get_pit2().map_err(failed("read the timer chip"))?;
        Ok(ChipsState { irqchips, pit, clock: self.clock()? })
    }

    /// The chips alone: a guest's clock goes on over its resets.
    pub fn reset_chips(&self, state: &ChipsState) -> Result<(), KvmError> {
        if !state.irqchips.iter().map(|chip| chip.chip_id).eq(CHIPS) {
            return Err(KvmError::State { what: "interrupt controller" });
        }
        for chip in &state.irqchips {
            self.fd().set_irqchip(chip).map_err(failed("set the interrupt controllers"))?;
        }
        self.fd().set_pit2(&state.pit).map_err(failed("set the timer chip"))
    }

    pub fn clock(&self) -> Result<Nanoseconds, KvmError> {
        let clock = self.fd().get_clock().map_err(failed("read the guest's clock"))?;
        Ok(Nanoseconds(clock.clock))
    }

    pub fn set_clock(&self, clock: Nanoseconds) -> Result<(), KvmError> {
        let clock = kvm_clock_data { clock: clock.0, ..Default::default() };
        self.fd().set_clock(&clock).map_err(failed("set the guest's clock"))
    }
}
