//! NUMA cells and `<numatune>`.

use vmm_protocol::config::{MemoryBacking, NumaCell, NumaMode, NumaPlacement};

use super::{configured, defined, refused, with};

const TWO: &str = "<cpu><numa><cell id='0' cpus='0-1' memory='64' unit='MiB'/>\
                   <cell id='1' cpus='2-3' memory='32' unit='MiB'><distances>\
                   <sibling id='0' value='31'/></distances></cell></numa></cpu>";

fn guest(more: &str) -> String {
    with(&format!("<vcpu>4</vcpu>{more}"), "")
}

#[test]
fn cells_become_nodes_with_their_memory_and_distances() {
    let def = defined(&guest(TWO));
    assert_eq!(def.memory.size.0, 96 << 10, "what the cells have together");
    let config = configured(&def);
    assert_eq!(config.memory.size, 96 << 20);
    let cell = |memory: u64, cpus: [u16; 2], distances: [u8; 2]| NumaCell {
        memory: memory << 20,
        cpus: cpus.to_vec(),
        distances: distances.to_vec(),
        placement: None,
    };
    assert_eq!(config.numa.cells, [cell(64, [0, 1], [10, 31]), cell(32, [2, 3], [31, 10])]);
}

#[test]
fn cells_without_numbers_and_vcpus_without_a_cell_are_completed_as_libvirt_does() {
    let def = defined(&guest(
        "<cpu><numa><cell memory='40000'/><cell cpus='1' memory='2' unit='MiB'/></numa></cpu>",
    ));
    let text = def.to_xml();
    assert!(text.contains("<cell id='0' cpus='0,2-3' memory='40000'"), "{text}");
    assert!(text.contains("<cell id='1' cpus='1' memory='2048'"), "{text}");
    let config = configured(&def);
    let sizes: Vec<u64> = config.numa.cells.iter().map(|cell| cell.memory >> 20).collect();
    assert_eq!((config.memory.size >> 20, sizes), (42, vec![40, 2]), "whole MiB");
    assert!(config.numa.cells[0].distances.is_empty());
}

#[test]
fn memory_comes_from_the_hosts_nodes_that_are_named() {
    let tune = "<numatune><memory mode='interleave' nodeset='0-2'/>\
                <memnode cellid='1' mode='preferred' nodeset='3'/></numatune>";
    let numa = configured(&defined(&guest(&format!("{tune}{TWO}")))).numa;
    let place = |mode, nodes: &[u16]| Some(NumaPlacement { mode, nodes: nodes.to_vec() });
    assert_eq!(numa.placement, place(NumaMode::Interleave, &[0, 1, 2]));
    assert_eq!(numa.cells[0].placement, None);
    assert_eq!(numa.cells[1].placement, place(NumaMode::Preferred, &[3]));
    let alone = "<numatune><memory nodeset='1'/></numatune>";
    let numa = configured(&defined(&guest(alone))).numa;
    assert_eq!((numa.cells.len(), numa.placement), (0, place(NumaMode::Strict, &[1])));
}

#[test]
fn what_backs_the_cells_is_one_for_all() {
    let shared = TWO.replace("unit='MiB'", "unit='MiB' memAccess='shared'");
    assert_eq!(configured(&defined(&guest(&shared))).memory.backing, MemoryBacking::Shared);
    let pages = |nodes: &str| {
        let page = format!("<page size='2' unit='MiB' nodeset='{nodes}'/>");
        guest(&format!("<memoryBacking><hugepages>{page}</hugepages></memoryBacking>{TWO}"))
    };
    let backing = configured(&defined(&pages("0-1"))).memory.backing;
    assert_eq!(backing, MemoryBacking::Huge { page: Some(2 << 20) });
    let error = refused(&pages("1"));
    assert!(error.message.contains("pages of different sizes"), "{}", error.message);
}

#[test]
fn mistakes_are_named() {
    let cell = |attributes: &str, inside: &str| {
        let first = "<cell id='0' cpus='0-3' memory='64' unit='MiB'/>";
        guest(&format!(
            "<cpu><numa>{first}<cell {attributes} unit='MiB'>{inside}</cell></numa></cpu>"
        ))
    };
    let distance = |id: u32, value: u32| {
        let sibling = format!("<distances><sibling id='{id}' value='{value}'/></distances>");
        cell("id='1' memory='1'", &sibling)
    };
    let tune = |inside: &str| guest(&format!("<numatune>{inside}</numatune>"));
    for (text, message) in [
        (cell("id='1' cpus='3' memory='1'", ""), "vCPU 3 is in another cell"),
        (cell("id='1' cpus='4' memory='1'", ""), "no vCPU 4"),
        (cell("id='2' memory='1'", ""), "numbered from 0"),
        (cell("id='1' memory='0'", ""), "has memory"),
        (cell("id='1' memory='1' memAccess='shared'", ""), "shared in some cells"),
        (distance(2, 20), "no cell 2"),
        (distance(0, 10), "11 to 255"),
        (distance(0, 256), "11 to 255"),
        (distance(1, 20), "10 to the cell itself"),
        (tune("<memory mode='strict'/>"), "nodeset"),
        (tune("<memory mode='restrictive' nodeset='0'/>"), "cgroups"),
        (tune("<memory placement='auto'/>"), "numad"),
        (tune("<memnode cellid='0' nodeset='0'/>"), "no NUMA cell 0"),
    ] {
        let error = refused(&text);
        assert!(error.message.contains(message), "{message}: {}", error.message);
    }
}
