//! Resource assignment: what firmware would do, so that a kernel booted without one finds a
//! configured tree and has nothing to move.
//!
//! Every bus is packed biggest first, which leaves no gaps; what is behind a bridge counts as one
//! block, rounded to the grain of the bridge's windows.

use std::ops::Range;

use crate::pci::hierarchy::{BusId, PciError, PciRoot, Tree};
use crate::pci::{BarKind, spec, window};

/// Address space that BARs may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    pub io: Range<u64>,
    pub memory32: Range<u64>,
    pub memory64: Range<u64>,
}

/// Address space a bridge keeps free for devices plugged later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserve {
    pub memory32: u64,
    pub memory64: u64,
}

impl Reserve {
    fn of(self, kind: BarKind) -> u64 {
        match kind {
            BarKind::Io | BarKind::Rom => 0,
            BarKind::Memory32 => self.memory32,
            BarKind::Memory64 => self.memory64,
        }
    }
}

/// Something to place: a BAR, or a bridge window with all that is behind it.
struct Block {
    node: usize,
    /// Index into the BARs of the function; none for a bridge window.
    bar: Option<usize>,
    size: u64,
    align: u64,
}

/// The blocks of one bus, and what they take together.
struct Plan {
    blocks: Vec<Block>,
    size: u64,
    align: u64,
}

/// Not expansion ROMs: what reads them, firmware, places them itself.
const KINDS: [BarKind; 3] = [BarKind::Io, BarKind::Memory32, BarKind::Memory64];

impl PciRoot {
    /// Number all buses, place all BARs and bridge windows, and switch decoding on.
    ///
    /// # Errors
    /// When a window or the bus numbers do not suffice; the tree is then half assigned.
    pub fn assign_resources(&self, windows: &Windows) -> Result<(), PciError> {
        self.with_tree(|tree| {
            tree.number(BusId::ROOT, 0)?;
            for kind in KINDS {
                let (range, name) = match kind {
                    BarKind::Io => (&windows.io, "I/O"),
                    BarKind::Memory32 | BarKind::Rom => (&windows.memory32, "32-bit memory"),
                    BarKind::Memory64 => (&windows.memory64, "64-bit memory"),
                };
                let plan = tree.plan(BusId::ROOT, kind);
                tree.place(&plan, kind, range.start, Some((range.end, name)))?;
            }
            tree.enable();
            Ok(())
        })
    }
}

impl Tree {
    /// Give the buses below `bus` their numbers, depth first; the last number comes back.
    fn number(&self, bus: BusId, number: u8) -> Result<u8, PciError> {
        let mut last = number;
        let bridges = self.nodes.iter().filter(|node| node.parent == bus);
        for node in bridges.filter(|node| node.is_bridge_to(node.id)) {
            let config = node.function.config();
            let secondary = last
                .checked_add(1)
                .ok_or_else(|| PciError::NoBusNumber { name: node.function.name().to_owned() })?;
            last = self.number(node.id, secondary)?;
            window::assign_buses(config, number, secondary, last);
        }
        Ok(last)
    }

    fn plan(&self, bus: BusId, kind: BarKind) -> Plan {
        let mut blocks = Vec::new();
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.parent == bus) {
            let bars = node.function.config().bars().iter().enumerate();
            blocks.extend(bars.filter(|(_, bar)| bar.kind == kind).map(|(at, bar)| Block {
                node: index,
                bar: Some(at),
                size: bar.size,
                align: bar.size,
            }));
            if node.is_bridge_to(node.id) {
                let behind = self.plan(node.id, kind);
                let grain = match kind {
                    BarKind::Io => window::IO_GRAIN,
                    BarKind::Memory32 | BarKind::Memory64 | BarKind::Rom => window::MEMORY_GRAIN,
                };
                let size = behind.size.max(node.function.reserve().of(kind));
                if size > 0 {
                    let size = size.next_multiple_of(grain);
                    blocks.push(Block {
                        node: index,
                        bar: None,
                        size,
                        align: behind.align.max(grain),
                    });
                } else {
                    window::assign(node.function.config(), kind, None);
                }
            }
        }
        blocks.sort_by_key(|block| std::cmp::Reverse(block.align));
        let end =
            blocks.iter().fold(0u64, |at, block| at.next_multiple_of(block.align) + block.size);
        let align = blocks.first().map_or(1, |block| block.align);
        Plan { blocks, size: end, align }
    }

    /// Place the blocks of a bus from `start` on. `bound`: where its window ends, and its name;
    /// behind a bridge the plan of the bus above made sure of the room.
    fn place(
        &self,
        plan: &Plan,
        kind: BarKind,
        start: u64,
        bound: Option<(u64, &'static str)>,
    ) -> Result<(), PciError> {
        let mut at = start;
        for block in &plan.blocks {
            let node = &self.nodes[block.node];
            let config = node.function.config();
            let base = at.checked_next_multiple_of(block.align);
            let placed = base.and_then(|base| Some((base, base.checked_add(block.size)?)));
            let (base, end) = match (placed, bound) {
                (Some(placed), None) => placed,
                (Some(placed), Some((limit, _))) if placed.1 <= limit => placed,
                (_, bound) => {
                    return Err(PciError::NoRoom {
                        name: node.function.name().to_owned(),
                        window: bound.map_or("bridge", |(_, name)| name),
                        size: block.size,
                    });
                }
            };
            match block.bar {
                Some(bar) => config.assign_bar(&config.bars()[bar], base),
                None => {
                    window::assign(config, kind, Some((base, block.size)));
                    self.place(&self.plan(node.id, kind), kind, base, None)?;
                }
            }
            at = end;
        }
        Ok(())
    }

    /// Let every function decode what it has, and master the bus.
    fn enable(&self) {
        for node in &self.nodes {
            let config = node.function.config();
            let has = |io: bool| config.bars().iter().any(|bar| (bar.kind == BarKind::Io) == io);
            let mut command = spec::COMMAND_MASTER;
            if has(true) || config.is_bridge() {
                command |= spec::COMMAND_IO;
            }
            if has(false) || config.is_bridge() {
                command |= spec::COMMAND_MEMORY;
            }
            config.write(spec::COMMAND, &command.to_le_bytes());
        }
    }
}
