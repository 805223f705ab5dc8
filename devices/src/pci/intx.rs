//! [`Intx`]: the interrupt pin of a function (PCI Local Bus 3.0 §6.2.2, §6.2.3).

use std::sync::{Arc, Mutex};

use crate::irq::IrqLine;
use crate::pci::Config;
use crate::pci::spec::{COMMAND, COMMAND_INTX_DISABLE};
use crate::sync::Lock;

pub struct Intx {
    line: Option<Arc<dyn IrqLine>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    asserted: bool,
    /// What the line was last driven to.
    high: bool,
}

impl Intx {
    /// `line`: none where the function has no pin.
    #[must_use]
    pub fn new(line: Option<Arc<dyn IrqLine>>) -> Self {
        Self { line, state: Mutex::default() }
    }

    /// Whether the function asks for service.
    pub fn set(&self, config: &Config, asserted: bool) {
        let mut state = self.state.hold();
        if asserted != state.asserted {
            state.asserted = asserted;
            config.set_interrupt_status(asserted);
        }
        self.drive(config, &mut state);
    }

    /// Follow the command register, after any write to configuration space.
    pub fn config_written(&self, config: &Config) {
        self.drive(config, &mut self.state.hold());
    }

    fn drive(&self, config: &Config, state: &mut State) {
        let high = state.asserted && config.u16(COMMAND) & COMMAND_INTX_DISABLE == 0;
        if high != state.high {
            state.high = high;
            if let Some(line) = &self.line {
                line.set(high);
            }
        }
    }
}
