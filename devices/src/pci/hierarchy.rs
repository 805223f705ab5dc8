//! [`PciRoot`]: the tree of functions, configuration accesses to it, and what keeps buses in step.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use crate::bus::{Bus, BusDevice, Effect};
use crate::component::{Component, DeviceState, StateError};
use crate::pci::ecam::{ConfigShadow, Ecam, EcamWindow};
use crate::pci::spec::{self, CONFIG_SIZE};
use crate::pci::{PciAddress, PciFunction};
use crate::sync::Lock;

mod ports;
mod routing;
mod survey;
#[cfg(test)]
mod tests;

pub use ports::ConfigPorts;
pub use survey::Survey;

/// A place in the tree: the root bus, or the bus behind a bridge, whatever number it has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BusId(u32);

impl BusId {
    pub const ROOT: Self = Self(0);
}

#[derive(Debug, thiserror::Error)]
pub enum PciError {
    #[error("{name} wants PCI slot {device:#x}.{function}, where {other} sits already")]
    Occupied { name: String, other: String, device: u8, function: u8 },
    #[error("{name} is to sit on a PCI bus that no bridge leads to")]
    NoBus { name: String },
    #[error("no room for {size:#x} bytes of {name} in the {window} window")]
    NoRoom { name: String, window: &'static str, size: u64 },
    #[error("{name} needs more PCI buses than there are numbers")]
    NoBusNumber { name: String },
}

/// The PCI hierarchy of a machine.
///
/// Lock order: tree, then function. Register accesses through BARs take neither; they go through
/// the routes that were published on the buses.
pub struct PciRoot {
    mmio: Arc<Bus>,
    pio: Arc<Bus>,
    /// Guest RAM `(start, length)`: no BAR is decoded over it.
    ram: Vec<(u64, u64)>,
    shadow: Option<Arc<dyn ConfigShadow>>,
    ecam: Arc<dyn BusDevice>,
    tree: RwLock<Tree>,
    latches: Mutex<Latches>,
}

/// What the ports 0xCF8 and 0xCF9 hold.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
struct Latches {
    address: u32,
    reset: u8,
}

#[derive(Default)]
pub(super) struct Tree {
    /// Bridges before what is behind them.
    pub(super) nodes: Vec<Node>,
    next: u32,
    ecam: Option<EcamWindow>,
}

pub(super) struct Node {
    /// The bus behind it, if it is a bridge.
    pub(super) id: BusId,
    pub(super) parent: BusId,
    devfn: u8,
    pub(super) function: Arc<dyn PciFunction>,
    /// The BARs, and where each is routed now.
    bars: Vec<(Arc<dyn BusDevice>, Option<u64>)>,
    /// Where configuration accesses find it now.
    address: Option<PciAddress>,
}

impl PciRoot {
    /// An empty hierarchy that decodes BARs on `mmio` and `pio`, never over `ram`.
    #[must_use]
    pub fn new(
        mmio: Arc<Bus>,
        pio: Arc<Bus>,
        ram: Vec<(u64, u64)>,
        shadow: Option<Arc<dyn ConfigShadow>>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|root: &Weak<Self>| Self {
            mmio,
            pio,
            ram,
            shadow,
            ecam: Arc::new(Ecam::new(root.clone())),
            tree: RwLock::default(),
            latches: Mutex::default(),
        })
    }

    /// Add a function. What comes back names the bus behind it, if it is a bridge.
    ///
    /// # Errors
    /// When the place is taken, or does not exist.
    pub fn add(
        &self,
        bus: BusId,
        device: u8,
        number: u8,
        function: Arc<dyn PciFunction>,
    ) -> Result<BusId, PciError> {
        let mut tree = self.write();
        let devfn = PciAddress::new(0, device, number).devfn();
        let name = || function.name().to_owned();
        if bus != BusId::ROOT && !tree.nodes.iter().any(|node| node.is_bridge_to(bus)) {
            return Err(PciError::NoBus { name: name() });
        }
        if let Some(node) = tree.nodes.iter().find(|node| (node.parent, node.devfn) == (bus, devfn))
        {
            let other = node.function.name().to_owned();
            return Err(PciError::Occupied { name: name(), other, device, function: number });
        }
        tree.next += 1;
        let id = BusId(tree.next);
        let bars = function.config().bars().iter().map(|bar| {
            let device = BarDevice { function: function.clone(), bar: bar.index };
            (Arc::new(device) as Arc<dyn BusDevice>, None)
        });
        let bars = bars.collect();
        tree.nodes.push(Node { id, parent: bus, devfn, function, bars, address: None });
        tree.mark_multifunction(bus, device);
        self.sync(&mut tree);
        Ok(id)
    }

    /// Take away the function at a place, and all that is behind it.
    pub fn remove(&self, bus: BusId, device: u8, number: u8) {
        let mut tree = self.write();
        let devfn = PciAddress::new(0, device, number).devfn();
        let at = tree.nodes.iter().position(|node| (node.parent, node.devfn) == (bus, devfn));
        let Some(at) = at else { return };
        let mut gone = vec![tree.nodes.remove(at)];
        // Nodes stand after their bridge, so one pass finds the whole subtree.
        let mut index = at;
        while index < tree.nodes.len() {
            if gone.iter().any(|node| node.id == tree.nodes[index].parent) {
                gone.push(tree.nodes.remove(index));
            } else {
                index += 1;
            }
        }
        for node in &mut gone {
            self.unroute(node);
            self.unmirror(node);
        }
        self.sync(&mut tree);
    }

    /// A configuration read: 1, 2, 4 or 8 bytes, naturally aligned; anything else is all ones.
    pub fn config_read(&self, address: PciAddress, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        let tree = self.read();
        let Some(node) = tree.find(address).filter(|_| accepts(offset, data.len())) else { return };
        for (at, part) in (offset..).step_by(4).zip(data.chunks_mut(4)) {
            node.function.config_read(at, part);
        }
    }

    /// A configuration write of the same shapes; anything else is dropped.
    pub fn config_write(&self, address: PciAddress, offset: u16, data: &[u8]) -> Effect {
        let mut tree = self.write();
        let Some(node) = tree.find(address).filter(|_| accepts(offset, data.len())) else {
            return Effect::None;
        };
        let was_resetting = node.resets_its_bus();
        let mut effect = Effect::None;
        for (at, part) in (offset..).step_by(4).zip(data.chunks(4)) {
            let part = node.function.config_write(at, part);
            effect = if effect == Effect::None { part } else { effect };
        }
        if node.resets_its_bus() && !was_resetting {
            tree.reset_behind(node.id);
        }
        // The header decides what is decoded; PCIEXBAR of the host bridge lies behind it.
        if offset < 0x40 || address == PciAddress::HOST_BRIDGE {
            self.sync(&mut tree);
        }
        effect
    }

    /// Where the function at a place answers configuration accesses now.
    #[must_use]
    pub fn address(&self, bus: BusId, device: u8, number: u8) -> Option<PciAddress> {
        let devfn = PciAddress::new(0, device, number).devfn();
        let tree = self.read();
        let node = tree.nodes.iter().find(|node| (node.parent, node.devfn) == (bus, devfn))?;
        node.address
    }

    /// Where configuration space is mapped now.
    #[must_use]
    pub fn ecam_window(&self) -> Option<EcamWindow> {
        self.read().ecam
    }

    /// Bring routes in line with all registers: after functions changed theirs by themselves.
    pub fn refresh(&self) {
        self.with_tree(|_| ());
    }

    /// Change registers all over the tree; routes follow at the end, whatever comes back.
    pub(super) fn with_tree<T>(&self, change: impl FnOnce(&mut Tree) -> T) -> T {
        let mut tree = self.write();
        let result = change(&mut tree);
        self.sync(&mut tree);
        result
    }

    fn read(&self) -> RwLockReadGuard<'_, Tree> {
        self.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tree> {
        self.tree.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tree {
    fn find(&self, address: PciAddress) -> Option<&Node> {
        self.nodes.iter().find(|node| node.address == Some(address))
    }

    /// A slot with more than one function says so, or nobody looks for the others.
    fn mark_multifunction(&self, bus: BusId, device: u8) {
        let in_slot = |node: &&Node| node.parent == bus && node.devfn >> 3 == device & 0x1f;
        if self.nodes.iter().filter(in_slot).count() > 1 {
            for node in self.nodes.iter().filter(in_slot) {
                node.function.config().set_multifunction();
            }
        }
    }

    /// Reset all functions behind a bridge.
    fn reset_behind(&self, bus: BusId) {
        for node in self.nodes.iter().filter(|node| node.parent == bus) {
            node.function.bus_reset();
            self.reset_behind(node.id);
        }
    }

    fn bridge_to(&self, bus: BusId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.is_bridge_to(bus))
    }
}

impl Node {
    /// Whether it is a bridge that holds its secondary bus in reset.
    fn resets_its_bus(&self) -> bool {
        let config = self.function.config();
        config.is_bridge() && config.u16(spec::BRIDGE_CONTROL) & spec::BRIDGE_CONTROL_RESET != 0
    }

    pub(super) fn is_bridge_to(&self, bus: BusId) -> bool {
        self.id == bus && self.function.config().is_bridge()
    }
}

impl fmt::Debug for PciRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tree = self.read();
        let nodes = tree.nodes.iter().map(|node| (node.address, node.function.name()));
        f.debug_list().entries(nodes).finish()
    }
}

impl Component for PciRoot {
    fn id(&self) -> &str {
        "pci"
    }

    fn kind(&self) -> &'static str {
        "pci-root"
    }

    /// Routes follow what functions took on by their own restore.
    fn resume(&self) {
        self.refresh();
    }

    /// Resets the configuration space of every function too, so that no BAR stays decoded.
    fn reset(&self) {
        *self.latches.hold() = Latches::default();
        let mut tree = self.write();
        for node in &tree.nodes {
            node.function.config().reset();
        }
        self.sync(&mut tree);
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 1, &*self.latches.hold())
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        *self.latches.hold() = state.decode(self.kind(), 1)?;
        self.refresh();
        Ok(())
    }
}

/// A BAR as the bus sees it.
struct BarDevice {
    function: Arc<dyn PciFunction>,
    bar: u8,
}

impl BusDevice for BarDevice {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        self.function.bar_read(self.bar, offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        self.function.bar_write(self.bar, offset, data)
    }
}

fn accepts(offset: u16, len: usize) -> bool {
    let offset = usize::from(offset);
    matches!(len, 1 | 2 | 4 | 8) && offset.is_multiple_of(len) && offset + len <= CONFIG_SIZE
}
