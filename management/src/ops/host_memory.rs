//! The host's NUMA cells and their pages, and pages that guests share.

use broker::{HostMemory, SamePages};

use crate::auth::Access;
use crate::domain::actor::blocking;
use crate::error::{Code, Error};
use crate::host;
use crate::manager::{Context, Operation};

pub use crate::host::{Cell, CellCpu, PAGE, Pages, SharedMemory};

/// More than any host has; of a number that a client made up.
const MOST_CELLS: u32 = 1024;

/// The host's NUMA cells, their memory and their pages (virNodeGetCellsFreeMemory,
/// virNodeGetFreePages).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListCells;

impl Operation for ListCells {
    type Output = Vec<Cell>;
    const NAME: &'static str = "node.cells";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<Vec<Cell>, Error> {
        let host = cx.node.host.clone();
        blocking(move || Ok(host::read_cells(&host))).await
    }
}

/// Which cells something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cells {
    /// The host, as one.
    Whole,
    /// So many from this one on; numbers that no cell has are passed over.
    From(u32, u32),
}

/// Put huge pages aside for guests, or give them back (virNodeAllocPages). Says in how many cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocatePages {
    pub cells: Cells,
    /// Sizes in KiB, and how many of each.
    pub pages: Vec<(u64, u64)>,
    /// Beside those that there are; else in place of them.
    pub add: bool,
}

impl Operation for AllocatePages {
    type Output = u32;
    const NAME: &'static str = "node.allocate-pages";
    const ACCESS: Access = Access::Write;

    async fn run(self, cx: &Context) -> Result<u32, Error> {
        let (host, broker) = (cx.node.host.clone(), cx.node.broker.clone());
        blocking(move || {
            let cells = host::read_cells(&host);
            let set = |number| broker.set_host_memory(number).map_err(Error::from);
            let chosen: Vec<Option<&Cell>> = match self.cells {
                Cells::Whole => vec![None],
                Cells::From(first, count) => {
                    let last = first.saturating_add(count.min(MOST_CELLS));
                    let within = |cell: &&Cell| (first..last).contains(&cell.id);
                    cells.iter().filter(within).map(Some).collect()
                }
            };
            for cell in &chosen {
                for (size, count) in &self.pages {
                    let here = now(&cells, *cell, *size)?;
                    let count = if self.add { here.total.saturating_add(*count) } else { *count };
                    let (size, cell) = (*size, cell.map(|cell| cell.id));
                    set(HostMemory::HugePages { size, cell, count })?;
                }
            }
            if chosen.is_empty() {
                return Err(Error::new(Code::InvalidArgument, "the host has none of these cells"));
            }
            // The kernel finds as many as it can, and says nothing when they are fewer.
            let after = host::read_cells(&host);
            for cell in &chosen {
                let cell = cell.and_then(|cell| after.iter().find(|now| now.id == cell.id));
                for (size, count) in &self.pages {
                    let before = now(&cells, cell, *size)?.total;
                    let wanted = if self.add { before.saturating_add(*count) } else { *count };
                    let found = now(&after, cell, *size)?.total;
                    if found < wanted {
                        let text = format!(
                            "the host has {found} pages of {size} KiB, and room for no more; {wanted} \
                             were wanted: free memory, or ask for fewer"
                        );
                        return Err(Error::new(Code::ResourceExhausted, text));
                    }
                }
            }
            Ok(u32::try_from(chosen.len()).unwrap_or(u32::MAX))
        })
        .await
    }
}

/// What there is of huge pages of this size, in a cell or in all of them.
fn now(cells: &[Cell], cell: Option<&Cell>, size: u64) -> Result<Pages, Error> {
    let found = match cell {
        Some(cell) => cells.iter().find(|one| one.id == cell.id).map(std::slice::from_ref),
        None => Some(cells),
    };
    let found = found.and_then(|cells| host::in_all(cells, size));
    found.filter(|_| size != PAGE).ok_or_else(|| {
        let text = match size {
            PAGE => format!("pages of {PAGE} KiB are the ordinary ones, which are not put aside"),
            _ => format!("this host has no huge pages of {size} KiB"),
        };
        Error::new(Code::InvalidArgument, text)
    })
}

/// How the kernel keeps pages that are the same once, and what it saves
/// (virNodeGetMemoryParameters).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetSharedMemory;

impl Operation for GetSharedMemory {
    type Output = SharedMemory;
    const NAME: &'static str = "node.shared-memory";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<SharedMemory, Error> {
        let sys = cx.node.host.sys();
        blocking(move || Ok(host::shared_memory(&sys))).await
    }
}

/// Change how it looks for them (virNodeSetMemoryParameters).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TuneSharedMemory {
    pub pages_to_scan: Option<u32>,
    pub sleep_millisecs: Option<u32>,
    pub merge_across_nodes: Option<u32>,
}

impl Operation for TuneSharedMemory {
    type Output = ();
    const NAME: &'static str = "node.tune-shared-memory";
    const ACCESS: Access = Access::Write;

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let broker = cx.node.broker.clone();
        if self.merge_across_nodes.is_some_and(|value| value > 1) {
            let text = "shm_merge_across_nodes is 1 or 0";
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let settings = [
            (SamePages::PagesToScan, self.pages_to_scan),
            (SamePages::SleepMillisecs, self.sleep_millisecs),
            (SamePages::MergeAcrossNodes, self.merge_across_nodes),
        ];
        blocking(move || {
            for (setting, value) in settings {
                let Some(value) = value else { continue };
                broker.set_host_memory(HostMemory::SamePages { setting, value })?;
            }
            Ok(())
        })
        .await
    }
}
