//! The host's devices as libvirt names them, read from /sys: the computer, PCI and USB devices,
//! network interfaces, disks, what SCSI has, and graphics.
//!
//! ```text
//! computer ─┬ pci_0000_00_1f_2 ─ block_sda
//!           ├ pci_0000_00_19_0 ─ net_eth0_52_54_00_11_22_33
//!           └ net_lo_00_00_00_00_00_00
//! ```

mod drm;
mod scsi;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::host::escape;

/// More than any host has; of those beyond nothing is told.
const MOST: usize = 65536;
const COMPUTER: &str = "computer";
const SECTOR: u64 = 512;

/// What a device is; libvirt's capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeDeviceKind {
    System,
    Pci,
    Usb,
    Net,
    ScsiHost,
    ScsiTarget,
    Scsi,
    Storage,
    Drm,
}

impl NodeDeviceKind {
    /// libvirt's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Pci => "pci",
            Self::Usb => "usb_device",
            Self::Net => "net",
            Self::ScsiHost => "scsi_host",
            Self::ScsiTarget => "scsi_target",
            Self::Scsi => "scsi",
            Self::Storage => "storage",
            Self::Drm => "drm",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDevice {
    pub name: String,
    pub kind: NodeDeviceKind,
    /// None: it is the computer.
    pub parent: Option<String>,
    /// libvirt's node device XML.
    pub xml: String,
}

/// All of them, parents before their children's kinds, by name.
pub(crate) fn read(sys: &Path) -> Vec<NodeDevice> {
    let mut found = vec![computer(sys)];
    found.extend(entries(&sys.join("bus/pci/devices")).filter_map(|path| pci(sys, &path)));
    found.extend(entries(&sys.join("bus/usb/devices")).filter_map(|path| usb(sys, &path)));
    found.extend(entries(&sys.join("class/net")).filter_map(|path| net(sys, &path)));
    found.extend(scsi::read(sys));
    found.extend(entries(&sys.join("block")).filter_map(|path| storage(sys, &path)));
    found.extend(drm::read(sys));
    found.truncate(MOST);
    found
}

/// The one of this name. Its own kind alone is looked through: a tree is asked for one by one.
pub(crate) fn find(sys: &Path, name: &str) -> Option<NodeDevice> {
    let (kind, _) = name.split_once('_').unwrap_or((name, ""));
    let is_it = |device: &NodeDevice| device.name == name;
    match kind {
        COMPUTER => Some(computer(sys)).filter(is_it),
        "pci" => {
            let is_it = |path: &PathBuf| file_name(path).is_some_and(|at| pci_name(at) == name);
            pci(sys, &entries(&sys.join("bus/pci/devices")).find(is_it)?)
        }
        "usb" => {
            let all = entries(&sys.join("bus/usb/devices"));
            all.filter_map(|path| usb(sys, &path)).find(is_it)
        }
        "net" => entries(&sys.join("class/net")).filter_map(|path| net(sys, &path)).find(is_it),
        "block" => entries(&sys.join("block")).filter_map(|path| storage(sys, &path)).find(is_it),
        "scsi" => scsi::read(sys).find(is_it),
        "drm" => drm::read(sys).find(is_it),
        _ => None,
    }
}

/// The real places of what a directory links to, by name.
fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let mut paths: Vec<_> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().filter_map(|path| fs::canonicalize(path).ok())
}

fn text(path: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(path.join(name)).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The last name of what a link leads to.
fn target(path: &Path, name: &str) -> Option<String> {
    let target = fs::read_link(path.join(name)).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// libvirt's names have letters, digits and underscores.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn pci_name(address: &str) -> String {
    format!("pci_{}", plain(address))
}

/// `0000:00:1f.2` as numbers.
fn pci_address(name: &str) -> Option<[u32; 4]> {
    let (rest, function) = name.split_once('.')?;
    let mut parts = rest.split(':');
    let mut next = || u32::from_str_radix(parts.next()?, 16).ok();
    Some([next()?, next()?, next()?, function.parse().ok()?])
}

/// The nearest device above that is one of ours.
fn parent(sys: &Path, path: &Path) -> String {
    for above in path.ancestors().skip(1).take_while(|above| above.starts_with(sys)) {
        let Some(name) = file_name(above) else { continue };
        match target(above, "subsystem").as_deref() {
            Some("pci") if pci_address(name).is_some() => return pci_name(name),
            Some("usb") if !name.contains(':') => return format!("usb_{}", plain(name)),
            Some("scsi") => {
                if let Some((scsi, _)) = scsi::name_of(name) {
                    return scsi;
                }
            }
            _ => {}
        }
    }
    COMPUTER.to_owned()
}

fn driver(path: &Path) -> String {
    target(path, "driver").map_or_else(String::new, |name| {
        format!("  <driver>\n    <name>{}</name>\n  </driver>\n", escape(&name))
    })
}

/// Around what tells of its kind.
fn device(
    (sys, path): (&Path, &Path),
    name: String,
    kind: NodeDeviceKind,
    inside: &str,
) -> NodeDevice {
    let parent = parent(sys, path);
    let xml = format!(
        "<device>\n  <name>{name}</name>\n  <path>{}</path>\n  <parent>{parent}</parent>\n{}  \
         <capability type='{}'>\n{inside}  </capability>\n</device>\n",
        escape(&path.display().to_string()),
        driver(path),
        kind.name(),
    );
    NodeDevice { name, kind, parent: Some(parent), xml }
}

/// A child with a text, if there is one.
fn child(out: &mut String, indent: usize, name: &str, text: Option<String>) {
    if let Some(text) = text {
        let _ = writeln!(out, "{:indent$}<{name}>{}</{name}>", "", escape(&text));
    }
}

fn computer(sys: &Path) -> NodeDevice {
    let dmi = sys.join("class/dmi/id");
    let mut xml = format!("<device>\n  <name>{COMPUTER}</name>\n  <capability type='system'>\n");
    child(&mut xml, 4, "product", text(&dmi, "product_name"));
    xml.push_str("    <hardware>\n");
    child(&mut xml, 6, "vendor", text(&dmi, "sys_vendor"));
    child(&mut xml, 6, "version", text(&dmi, "product_version"));
    child(&mut xml, 6, "uuid", text(&dmi, "product_uuid"));
    xml.push_str("    </hardware>\n    <firmware>\n");
    child(&mut xml, 6, "vendor", text(&dmi, "bios_vendor"));
    child(&mut xml, 6, "version", text(&dmi, "bios_version"));
    child(&mut xml, 6, "release_date", text(&dmi, "bios_date"));
    xml.push_str("    </firmware>\n  </capability>\n</device>\n");
    NodeDevice { name: COMPUTER.to_owned(), kind: NodeDeviceKind::System, parent: None, xml }
}

fn pci(sys: &Path, path: &Path) -> Option<NodeDevice> {
    let address = file_name(path)?;
    let [domain, bus, slot, function] = pci_address(address)?;
    let mut inside = String::new();
    child(&mut inside, 4, "class", text(path, "class"));
    let _ = writeln!(
        inside,
        "    <domain>{domain}</domain>\n    <bus>{bus}</bus>\n    <slot>{slot}</slot>\n    \
         <function>{function}</function>"
    );
    for (name, file) in [("product", "device"), ("vendor", "vendor")] {
        if let Some(id) = text(path, file) {
            let _ = writeln!(inside, "    <{name} id='{}'/>", escape(&id));
        }
    }
    if let Some(group) = target(path, "iommu_group") {
        let members = entries(&path.join("iommu_group/devices"));
        let _ = writeln!(inside, "    <iommuGroup number='{}'>", escape(&group));
        for [domain, bus, slot, function] in
            members.filter_map(|member| pci_address(file_name(&member)?))
        {
            let _ = writeln!(
                inside,
                "      <address domain='{domain:#06x}' bus='{bus:#04x}' slot='{slot:#04x}' \
                 function='{function:#x}'/>"
            );
        }
        inside.push_str("    </iommuGroup>\n");
    }
    if let Some(node) = text(path, "numa_node").filter(|node| !node.starts_with('-')) {
        let _ = writeln!(inside, "    <numa node='{}'/>", escape(&node));
    }
    Some(device((sys, path), pci_name(address), NodeDeviceKind::Pci, &inside))
}

/// Whole devices; their interfaces have a colon in their names.
fn usb(sys: &Path, path: &Path) -> Option<NodeDevice> {
    let name = file_name(path).filter(|name| !name.contains(':'))?;
    let mut inside = String::new();
    child(&mut inside, 4, "bus", text(path, "busnum"));
    child(&mut inside, 4, "device", text(path, "devnum"));
    for (name, id, label) in
        [("product", "idProduct", "product"), ("vendor", "idVendor", "manufacturer")]
    {
        let id = text(path, id)?;
        let label = text(path, label).unwrap_or_default();
        let _ = writeln!(inside, "    <{name} id='0x{}'>{}</{name}>", escape(&id), escape(&label));
    }
    Some(device((sys, path), format!("usb_{}", plain(name)), NodeDeviceKind::Usb, &inside))
}

fn net(sys: &Path, path: &Path) -> Option<NodeDevice> {
    let name = file_name(path)?;
    let mac = text(path, "address").unwrap_or_default();
    let mut inside = String::new();
    child(&mut inside, 4, "interface", Some(name.to_owned()));
    child(&mut inside, 4, "address", Some(mac.clone()).filter(|mac| !mac.is_empty()));
    let speed = text(path, "speed").filter(|speed| speed.parse::<u32>().is_ok_and(|n| n > 0));
    let speed = speed.map(|speed| format!(" speed='{speed}'")).unwrap_or_default();
    let state = text(path, "operstate").unwrap_or_else(|| "unknown".to_owned());
    let _ = writeln!(inside, "    <link{speed} state='{}'/>", escape(&state));
    let kind = if path.join("phy80211").exists() { "80211" } else { "80203" };
    let _ = writeln!(inside, "    <capability type='{kind}'/>");
    let name = format!("net_{}_{}", plain(name), plain(&mac));
    Some(device((sys, path), name, NodeDeviceKind::Net, &inside))
}

fn storage(sys: &Path, path: &Path) -> Option<NodeDevice> {
    let block = file_name(path)?;
    // Of what lies on other disks, or on none, libvirt does not tell either.
    if !path.join("device").exists() {
        return None;
    }
    let about = path.join("device");
    let serial = text(path, "serial").or_else(|| text(&about, "serial"));
    let model = text(&about, "model");
    let mut inside = String::new();
    child(&mut inside, 4, "block", Some(format!("/dev/{block}")));
    let kind = if block.starts_with("sr") { "cdrom" } else { "disk" };
    child(&mut inside, 4, "drive_type", Some(kind.to_owned()));
    child(&mut inside, 4, "model", model.clone());
    child(&mut inside, 4, "vendor", text(&about, "vendor"));
    child(&mut inside, 4, "serial", serial.clone());
    let sectors = text(path, "size").and_then(|size| size.parse::<u64>().ok()).unwrap_or(0);
    let bytes = sectors.saturating_mul(SECTOR);
    let logical = text(path, "queue/logical_block_size").and_then(|size| size.parse::<u64>().ok());
    let logical = logical.filter(|size| *size > 0).unwrap_or(SECTOR);
    let _ = writeln!(
        inside,
        "    <size>{bytes}</size>\n    <logical_block_size>{logical}</logical_block_size>\n    \
         <num_blocks>{}</num_blocks>",
        bytes / logical
    );
    let suffix = serial.or(model).map(|known| format!("_{}", plain(&known))).unwrap_or_default();
    let name = format!("block_{}{suffix}", plain(block));
    Some(device((sys, path), name, NodeDeviceKind::Storage, &inside))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A host with a PCI bridge, behind it an interface of the network, and a disk; and loopback.
    fn host() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let link = |path: &str, to: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(dir.path().join(to), path).unwrap();
        };
        fs::create_dir_all(dir.path().join("bus/pci")).unwrap();
        let card = "devices/pci0000:00/0000:00:1c.0/0000:02:00.1";
        for (path, class) in [("devices/pci0000:00/0000:00:1c.0", "0x060400"), (card, "0x020000")] {
            write(&format!("{path}/class"), class);
            write(&format!("{path}/vendor"), "0x8086\n");
            write(&format!("{path}/device"), "0x1572\n");
            link(&format!("{path}/subsystem"), "bus/pci");
            let name = path.rsplit('/').next().unwrap();
            link(&format!("bus/pci/devices/{name}"), path);
        }
        write(&format!("{card}/net/eth0/address"), "52:54:00:11:22:33\n");
        write(&format!("{card}/net/eth0/operstate"), "up\n");
        write(&format!("{card}/net/eth0/speed"), "1000\n");
        link("class/net/eth0", &format!("{card}/net/eth0"));
        write("devices/virtual/net/lo/address", "00:00:00:00:00:00\n");
        link("class/net/lo", "devices/virtual/net/lo");
        write("devices/virtual/disk/vda/size", "2048\n");
        write("devices/virtual/disk/vda/serial", "a&b\n");
        write("devices/virtual/disk/vda/device/x", "");
        link("block/vda", "devices/virtual/disk/vda");
        write("devices/virtual/disk/loop0/size", "2048\n");
        link("block/loop0", "devices/virtual/disk/loop0");
        write("class/dmi/id/product_name", "A <computer>\n");
        dir
    }

    #[test]
    fn devices_have_libvirts_names_and_hang_where_they_are_plugged_in() {
        let dir = host();
        let sys = fs::canonicalize(dir.path()).unwrap();
        let found = read(&sys);
        let tree: Vec<_> =
            found.iter().map(|device| (device.name.as_str(), device.parent.as_deref())).collect();
        assert_eq!(
            tree,
            [
                ("computer", None),
                ("pci_0000_00_1c_0", Some("computer")),
                ("pci_0000_02_00_1", Some("pci_0000_00_1c_0")),
                ("net_eth0_52_54_00_11_22_33", Some("pci_0000_02_00_1")),
                ("net_lo_00_00_00_00_00_00", Some("computer")),
                ("block_vda_a_b", Some("computer")),
            ]
        );
        for device in &found {
            assert_eq!(find(&sys, &device.name).as_ref(), Some(device));
        }
        for name in ["", "pci", "pci_0000_ff_00_0", "net_", "computer_", "scsi_host0"] {
            assert_eq!(find(&sys, name), None, "{name}");
        }
        let xml = |name: &str| &found.iter().find(|device| device.name == name).unwrap().xml;
        assert!(xml("computer").contains("<product>A &lt;computer&gt;</product>"));
        let card = xml("pci_0000_02_00_1");
        for part in ["<bus>2</bus>", "<function>1</function>", "<vendor id='0x8086'/>"] {
            assert!(card.contains(part), "{card}");
        }
        let eth0 = xml("net_eth0_52_54_00_11_22_33");
        assert!(eth0.contains("<link speed='1000' state='up'/>"), "{eth0}");
        let disk = xml("block_vda_a_b");
        assert!(disk.contains("<size>1048576</size>") && disk.contains("a&amp;b"), "{disk}");
    }

    #[test]
    fn a_host_that_tells_nothing_is_a_computer() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).len(), 1);
    }
}
