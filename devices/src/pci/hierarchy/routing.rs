//! Routing: which bus number leads where, and which BARs are decoded.

use std::sync::Arc;

use crate::bus::{Bus, BusDevice};
use crate::limit::warn_limited;
use crate::pci::ecam::{EcamWindow, ShadowPage};
use crate::pci::hierarchy::{BusId, Node, PciRoot, Tree};
use crate::pci::spec::CONFIG_SIZE;
use crate::pci::{Bar, BarKind, PciAddress, window};

impl PciRoot {
    /// Bring bus numbers, the ECAM window and BAR routes in line with the registers.
    ///
    /// What moved is taken away first; then what is wanted and not routed is tried. A BAR that
    /// collides with another device stays unrouted and is tried again at the next change.
    pub(super) fn sync(&self, tree: &mut Tree) {
        self.number_buses(tree);
        let wanted: Vec<Vec<Option<u64>>> =
            tree.nodes.iter().map(|node| self.wanted(tree, node)).collect();
        for (node, wanted) in tree.nodes.iter_mut().zip(&wanted) {
            self.drop_moved(node, wanted);
        }
        self.place_ecam(tree);
        for (node, wanted) in tree.nodes.iter_mut().zip(&wanted) {
            self.route(node, wanted);
        }
    }

    fn number_buses(&self, tree: &mut Tree) {
        let mut addresses: Vec<Option<PciAddress>> = Vec::with_capacity(tree.nodes.len());
        for node in &tree.nodes {
            let address = tree
                .bus_number(node.parent, &addresses)
                .map(|bus| PciAddress::from_devfn(bus, node.devfn))
                // Two bridges that claim the same bus: the first one answers.
                .filter(|address| !addresses.contains(&Some(*address)));
            addresses.push(address);
        }
        let moved = |node: &Node, address: &Option<PciAddress>| node.address != *address;
        // All old pages are blanked before any new one is shown: a page may change hands.
        for (node, address) in tree.nodes.iter_mut().zip(&addresses) {
            if moved(node, address) {
                self.unmirror(node);
            }
        }
        for (node, address) in tree.nodes.iter_mut().zip(addresses) {
            if moved(node, &address) {
                node.address = address;
                if let (Some(shadow), Some(address)) = (&self.shadow, address) {
                    let page = ShadowPage { shadow: shadow.clone(), address };
                    node.function.config().mirror(Some(Arc::new(page)));
                }
            }
        }
    }

    /// The function answers nowhere from now on.
    pub(super) fn unmirror(&self, node: &mut Node) {
        node.function.config().mirror(None);
        if let (Some(shadow), Some(address)) = (&self.shadow, node.address.take()) {
            shadow.store(address.ecam_offset(), &[0xff; CONFIG_SIZE]);
        }
    }

    /// Where the BARs of a function should be decoded, through all bridges above it.
    fn wanted(&self, tree: &Tree, node: &Node) -> Vec<Option<u64>> {
        let config = node.function.config();
        let decoded = |bar: &Bar| {
            let base = config.bar_address(bar)?;
            let over_ram = bar.kind != BarKind::Io && self.overlaps_ram(base, bar.size);
            (!over_ram && tree.reaches(node.parent, bar, base)).then_some(base)
        };
        config.bars().iter().map(decoded).collect()
    }

    fn overlaps_ram(&self, base: u64, len: u64) -> bool {
        let end = base.saturating_add(len);
        self.ram.iter().any(|&(start, size)| base < start.saturating_add(size) && start < end)
    }

    fn bus_of(&self, kind: BarKind) -> &Bus {
        match kind {
            BarKind::Io => &self.pio,
            BarKind::Memory32 | BarKind::Memory64 | BarKind::Rom => &self.mmio,
        }
    }

    fn drop_moved(&self, node: &mut Node, wanted: &[Option<u64>]) {
        let bars = node.function.config().bars();
        for ((bar, (_, routed)), wanted) in bars.iter().zip(&mut node.bars).zip(wanted) {
            if let Some(base) = routed.take_if(|base| Some(*base) != *wanted) {
                self.bus_of(bar.kind).remove(base);
                node.function.bar_moved(bar.index, None);
            }
        }
    }

    /// Take all routes of a function away.
    pub(super) fn unroute(&self, node: &mut Node) {
        let nowhere = vec![None; node.bars.len()];
        self.drop_moved(node, &nowhere);
    }

    fn route(&self, node: &mut Node, wanted: &[Option<u64>]) {
        let bars = node.function.config().bars();
        for ((bar, (device, routed)), wanted) in bars.iter().zip(&mut node.bars).zip(wanted) {
            let (None, Some(base)) = (*routed, *wanted) else { continue };
            match self.bus_of(bar.kind).insert(base, bar.size, device.clone()) {
                Ok(()) => {
                    *routed = Some(base);
                    node.function.bar_moved(bar.index, Some(base));
                }
                Err(overlap) => tracing::debug!(%overlap, bar = bar.index, "BAR is not decoded"),
            }
        }
    }

    fn place_ecam(&self, tree: &mut Tree) {
        let wanted =
            tree.ecam_register().filter(|window| !self.overlaps_ram(window.base, window.len));
        if wanted == tree.ecam {
            return;
        }
        if let Some(old) = tree.ecam.take() {
            self.mmio.remove(old.base);
        }
        tree.ecam = wanted.filter(|window| {
            let ecam: Arc<dyn BusDevice> = self.ecam.clone();
            let placed = self.mmio.insert(window.base, window.len, ecam);
            placed.inspect_err(|overlap| warn_limited!(%overlap, "ECAM is not decoded")).is_ok()
        });
        if let Some(shadow) = &self.shadow {
            shadow.moved(tree.ecam);
        }
    }
}

impl Tree {
    /// The number of a bus, given the addresses of the nodes before. A bus has one while its bridge
    /// has an address, and its secondary number lies above the bridge's own and in all the ranges
    /// above: that leaves no room for loops.
    fn bus_number(&self, bus: BusId, addresses: &[Option<PciAddress>]) -> Option<u8> {
        if bus == BusId::ROOT {
            return Some(0);
        }
        let at = self.nodes.iter().position(|node| node.is_bridge_to(bus))?;
        let bridge = &self.nodes[at];
        let number = *window::buses(bridge.function.config()).start();
        let primary = addresses.get(at).copied().flatten()?.bus;
        (number > primary && self.forwards_bus(bridge, number)).then_some(number)
    }

    /// Whether a bridge and all those above it forward bus `number`.
    fn forwards_bus(&self, bridge: &Node, number: u8) -> bool {
        window::buses(bridge.function.config()).contains(&number)
            && (bridge.parent == BusId::ROOT
                || self
                    .bridge_to(bridge.parent)
                    .is_some_and(|above| self.forwards_bus(above, number)))
    }

    /// Whether all bridges between the root and `bus` forward the range of a BAR.
    fn reaches(&self, bus: BusId, bar: &Bar, base: u64) -> bool {
        bus == BusId::ROOT
            || self.bridge_to(bus).is_some_and(|bridge| {
                window::forwards(bridge.function.config(), bar.kind, base, bar.size)
                    && self.reaches(bridge.parent, bar, base)
            })
    }

    fn ecam_register(&self) -> Option<EcamWindow> {
        let (base, len) = self.nodes.iter().find_map(|node| node.function.ecam())?;
        Some(EcamWindow { base, len })
    }
}
