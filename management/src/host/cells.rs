//! The host's NUMA cells: which memory and which CPUs are near to each other (sysfs's
//! `devices/system/node`). A host that tells of none is one cell.

use std::fs;
use std::path::Path;

use super::{Host, kib, read, xml_cpus};

/// What an ordinary page of x86-64 has, KiB.
pub const PAGE: u64 = 4;

/// Memory, and the CPUs that it is nearest to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    pub id: u32,
    /// KiB.
    pub memory: u64,
    pub free: u64,
    /// By size; ordinary ones first.
    pub pages: Vec<Pages>,
    pub cpus: Vec<CellCpu>,
    /// How far it is to a cell: 10 is here.
    pub distances: Vec<(u32, u32)>,
}

/// Pages of one size in a cell, or in the whole host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    /// KiB.
    pub size: u64,
    pub total: u64,
    pub free: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CellCpu {
    pub id: u32,
    pub socket: u32,
    pub die: u32,
    pub core: u32,
    /// Threads of the same core, itself among them.
    pub siblings: Vec<u32>,
}

/// By number.
pub(crate) fn read_cells(host: &Host) -> Vec<Cell> {
    let nodes = host.sys().join("devices/system/node");
    let entries = fs::read_dir(&nodes).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix("node")?.parse::<u32>().ok();
    let mut ids: Vec<_> = entries.filter_map(|entry| number(entry.file_name().to_str()?)).collect();
    ids.sort_unstable();
    let cells: Vec<_> = ids.iter().filter_map(|id| cell(host, &nodes, *id, &ids)).collect();
    if cells.is_empty() { vec![whole(host)] } else { cells }
}

fn cell(host: &Host, nodes: &Path, id: u32, all: &[u32]) -> Option<Cell> {
    let node = nodes.join(format!("node{id}"));
    let text = fs::read_to_string(node.join("meminfo")).ok()?;
    // `Node 0 MemTotal:  16777216 kB`
    let prefix = format!("Node {id} ");
    let meminfo: String = text
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .flat_map(|l| [l, "\n"])
        .collect();
    let cpus = xml_cpus(&read(node.join("cpulist")));
    let distances = read(node.join("distance"));
    let distances = distances.split_whitespace().filter_map(|distance| distance.parse().ok());
    let (memory, free) = (kib(&meminfo, "MemTotal"), kib(&meminfo, "MemFree"));
    Some(Cell {
        id,
        memory,
        free,
        pages: pages(&node.join("hugepages"), memory, free),
        cpus: cpus.into_iter().map(|cpu| cell_cpu(&host.sys(), cpu)).collect(),
        distances: all.iter().copied().zip(distances).collect(),
    })
}

/// Of a kernel without NUMA.
fn whole(host: &Host) -> Cell {
    let meminfo = host.read("proc/meminfo");
    let (memory, free) = (kib(&meminfo, "MemTotal"), kib(&meminfo, "MemFree"));
    let cpus = xml_cpus(&read(host.sys().join("devices/system/cpu/online")));
    Cell {
        id: 0,
        memory,
        free,
        pages: pages(&host.sys().join("kernel/mm/hugepages"), memory, free),
        cpus: cpus.into_iter().map(|cpu| cell_cpu(&host.sys(), cpu)).collect(),
        distances: Vec::new(),
    }
}

/// Huge pages are put aside, so ordinary ones are what they leave.
fn pages(pools: &Path, memory: u64, free: u64) -> Vec<Pages> {
    let entries = fs::read_dir(pools).into_iter().flatten().flatten();
    let pool = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let size = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let number = |name: &str| read(entry.path().join(name)).trim().parse().unwrap_or(0);
        Some(Pages { size, total: number("nr_hugepages"), free: number("free_hugepages") })
    };
    let mut huge: Vec<_> = entries.filter_map(pool).collect();
    huge.sort_unstable_by_key(|pages| pages.size);
    let aside = huge
        .iter()
        .fold(0, |sum: u64, pages| sum.saturating_add(pages.size.saturating_mul(pages.total)));
    let small = Pages { size: PAGE, total: memory.saturating_sub(aside) / PAGE, free: free / PAGE };
    [vec![small], huge].concat()
}

fn cell_cpu(sys: &Path, id: u32) -> CellCpu {
    let topology = sys.join(format!("devices/system/cpu/cpu{id}/topology"));
    let number = |name: &str| read(topology.join(name)).trim().parse().unwrap_or(0);
    let mut siblings = xml_cpus(&read(topology.join("thread_siblings_list")));
    if siblings.is_empty() {
        siblings.push(id);
    }
    CellCpu {
        id,
        socket: number("physical_package_id"),
        die: number("die_id"),
        core: number("core_id"),
        siblings,
    }
}

/// Of all cells together, as virsh's `freepages` asks for the host.
pub(crate) fn in_all(cells: &[Cell], size: u64) -> Option<Pages> {
    let of_size = |cell: &Cell| cell.pages.iter().find(|pages| pages.size == size).copied();
    cells.iter().filter_map(of_size).reduce(|sum, pages| Pages {
        size,
        total: sum.total.saturating_add(pages.total),
        free: sum.free.saturating_add(pages.free),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::made_up(dir.path().to_owned());
        (dir, host)
    }

    #[test]
    fn each_cell_has_its_memory_its_cpus_and_its_pages() {
        let node = "sys/devices/system/node";
        let (_dir, host) = host(&[
            (
                &format!("{node}/node0/meminfo"),
                "Node 0 MemTotal: 9216 kB\nNode 0 MemFree: 400 kB\n",
            ),
            (&format!("{node}/node0/cpulist"), "0-1\n"),
            (&format!("{node}/node0/distance"), "10 21\n"),
            (&format!("{node}/node0/hugepages/hugepages-2048kB/nr_hugepages"), "2\n"),
            (&format!("{node}/node0/hugepages/hugepages-2048kB/free_hugepages"), "1\n"),
            (&format!("{node}/node2/meminfo"), "Node 2 MemTotal: 4096 kB\nNode 2 MemFree: 4 kB\n"),
            (&format!("{node}/node2/cpulist"), "\n"),
            (&format!("{node}/possible"), "0-2\n"),
            ("sys/devices/system/cpu/cpu1/topology/core_id", "7\n"),
            ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "0-1\n"),
        ]);
        let cells = read_cells(&host);
        let [first, second] = cells.as_slice() else { panic!("{cells:?}") };
        assert_eq!((first.id, first.memory, first.free), (0, 9216, 400));
        let small = Pages { size: 4, total: (9216 - 4096) / 4, free: 100 };
        assert_eq!(first.pages, [small, Pages { size: 2048, total: 2, free: 1 }]);
        assert_eq!(first.distances, [(0, 10), (2, 21)]);
        let second_cpu = CellCpu { id: 1, core: 7, siblings: vec![0, 1], ..CellCpu::default() };
        assert_eq!(first.cpus[1], second_cpu);
        assert_eq!((second.id, second.cpus.len()), (2, 0));
        assert_eq!(in_all(&cells, 4), Some(Pages { size: 4, total: 1280 + 1024, free: 101 }));
        assert_eq!(in_all(&cells, 1024), None);
    }

    #[test]
    fn a_host_that_tells_of_no_cells_is_one() {
        let (_dir, host) = host(&[
            ("proc/meminfo", "MemTotal: 4096 kB\nMemFree: 40 kB\n"),
            ("sys/devices/system/cpu/online", "0,2\n"),
        ]);
        let cells = read_cells(&host);
        assert_eq!(cells.len(), 1);
        assert_eq!((cells[0].memory, cells[0].cpus.len()), (4096, 2));
        assert_eq!(cells[0].pages, [Pages { size: 4, total: 1024, free: 10 }]);
    }
}
