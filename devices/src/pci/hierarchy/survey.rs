//! [`Survey`]: what firmware has made of the tree, for the tables that describe it.

use std::ops::Range;

use crate::pci::ecam::EcamWindow;
use crate::pci::hierarchy::PciRoot;
use crate::pci::window;

const ABOVE_32_BITS: u64 = 1 << 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Where configuration space is mapped.
    pub ecam: Option<EcamWindow>,
    /// The highest bus number behind a bridge; 0 when there is none.
    pub last_bus: u8,
    /// From the lowest to the highest address above 4 GiB that something is decoded at.
    pub memory64: Option<Range<u64>>,
}

impl PciRoot {
    #[must_use]
    pub fn survey(&self) -> Survey {
        let tree = self.read();
        let mut survey = Survey { ecam: tree.ecam, last_bus: 0, memory64: None };
        for node in &tree.nodes {
            let config = node.function.config();
            for bar in config.bars() {
                if let Some(base) = config.bar_address(bar) {
                    survey.reach(base, base.saturating_add(bar.size));
                }
            }
            if config.is_bridge() {
                survey.last_bus = survey.last_bus.max(*window::buses(config).end());
                let memory = window::prefetchable(config);
                if memory.start() < memory.end() {
                    survey.reach(*memory.start(), memory.end().saturating_add(1));
                }
            }
        }
        survey
    }
}

impl Survey {
    fn reach(&mut self, start: u64, end: u64) {
        if start >= ABOVE_32_BITS {
            let known = self.memory64.clone().unwrap_or(start..end);
            self.memory64 = Some(known.start.min(start)..known.end.max(end));
        }
    }
}
