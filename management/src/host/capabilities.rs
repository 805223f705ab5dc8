//! libvirt's capabilities XML: the host's processor, its cells, and what guests can be.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Cell, CellCpu, Driver, Host, Pages, Processor, details, escape, read_cells};
use crate::domain_capabilities::MAX_VCPUS;
use crate::ops::NodeDetails;

/// What guests can be given here, in libvirt's words.
pub(crate) fn capabilities(host: &Host) -> String {
    let test = match host.driver {
        Driver::Kvm => "",
        Driver::Test => "      <domain type='test'/>\n",
    };
    let (cells, processor, host) = (read_cells(host), Processor::own(host), details(host));
    let (sizes, cells, arch) = (page_sizes(&cells), topology(&cells), escape(&host.architecture));
    let (sockets, cores, threads) = (host.sockets, host.cores, host.threads);
    let (model, features) = processor_xml(&processor, &host);
    let machines: String = ["q35", "pc", "microvm"]
        .iter()
        .map(|machine| format!("      <machine maxCpus='{MAX_VCPUS}'>{machine}</machine>\n"))
        .collect();
    format!(
        "<capabilities>\n  <host>\n    <cpu>\n      <arch>{arch}</arch>\n{model}\
         \x20     <topology sockets='{sockets}' dies='1' cores='{cores}' threads='{threads}'/>\n{features}{sizes}    </cpu>\n\
         {cells}  </host>\n  <guest>\n    <os_type>hvm</os_type>\n    \
         <arch name='x86_64'>\n      <wordsize>64</wordsize>\n      <emulator>/usr/bin/manor</emulator>\n{machines}      <domain type='kvm'/>\n{test}    \
         </arch>\n    <features>\n      <acpi default='on' toggle='no'/>\n      <apic default='on' toggle='no'/>\n\
         \x20   </features>\n  </guest>\n</capabilities>\n"
    )
}

/// libvirt's name for the processor, its vendor, and what it has beside that model.
fn processor_xml(processor: &Processor, host: &NodeDetails) -> (String, String) {
    let Some((model, beside)) = processor.named() else {
        return (format!("      <model>{}</model>\n", escape(&host.cpu_model)), String::new());
    };
    let vendor = processor.vendor_name();
    let vendor = vendor.map(|vendor| format!("      <vendor>{vendor}</vendor>\n"));
    let features = beside.iter().map(|name| format!("      <feature name='{name}'/>\n"));
    (
        format!("      <model>{}</model>\n{}", model.name, vendor.unwrap_or_default()),
        features.collect(),
    )
}

/// Which pages there are.
fn page_sizes(cells: &[Cell]) -> String {
    let sizes = cells.iter().flat_map(|cell| &cell.pages).map(|pages| pages.size);
    let sizes: BTreeSet<_> = sizes.collect();
    sizes.iter().map(|size| format!("      <pages unit='KiB' size='{size}'/>\n")).collect()
}

fn topology(cells: &[Cell]) -> String {
    let mut xml = format!("    <topology>\n      <cells num='{}'>\n", cells.len());
    for cell in cells {
        let _ = writeln!(
            xml,
            "        <cell id='{}'>\n          <memory unit='KiB'>{}</memory>",
            cell.id, cell.memory
        );
        for Pages { size, total, .. } in &cell.pages {
            let _ = writeln!(xml, "          <pages unit='KiB' size='{size}'>{total}</pages>");
        }
        if !cell.distances.is_empty() {
            xml.push_str("          <distances>\n");
            for (id, distance) in &cell.distances {
                let _ = writeln!(xml, "            <sibling id='{id}' value='{distance}'/>");
            }
            xml.push_str("          </distances>\n");
        }
        let _ = writeln!(xml, "          <cpus num='{}'>", cell.cpus.len());
        for CellCpu { id, socket, die, core, siblings } in &cell.cpus {
            let siblings: Vec<_> = siblings.iter().map(ToString::to_string).collect();
            let _ = writeln!(
                xml,
                "            <cpu id='{id}' socket_id='{socket}' die_id='{die}' core_id='{core}' \
                 siblings='{}'/>",
                siblings.join(",")
            );
        }
        xml.push_str("          </cpus>\n        </cell>\n");
    }
    xml.push_str("      </cells>\n    </topology>\n");
    xml
}
