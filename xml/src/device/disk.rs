//! `<disk>`: an image, a block device or a network volume as the guest's disk, CD-ROM or floppy.

use std::path::{Path, PathBuf};

use crate::cursor::Cursor;
use crate::device::VirtioModel;
use crate::device::address::{DeviceAddress, DriveAddress};
use crate::diagnostic::Kind;
use crate::element::{Element, element};
use crate::report::quote;
use crate::value::{OnOff, YesNo, names};
use crate::verbatim::Verbatim;
use crate::write::Writer;

names! {
    pub enum DiskType {
        File = "file", Block = "block", Dir = "dir", Network = "network", Volume = "volume", Nvme = "nvme",
        VhostUser = "vhostuser", VhostVdpa = "vhostvdpa",
    }
    pub enum DiskDevice { Disk = "disk", Cdrom = "cdrom", Floppy = "floppy", Lun = "lun" }
    /// Of virtio disks and USB disks.
    pub enum DiskModel {
        Virtio = "virtio", Transitional = "virtio-transitional", NonTransitional = "virtio-non-transitional",
        UsbStorage = "usb-storage", UsbBot = "usb-bot",
    }
    pub enum DiskBus {
        Virtio = "virtio", Scsi = "scsi", Sata = "sata", Ide = "ide", Usb = "usb", Fdc = "fdc", Sd = "sd",
        Xen = "xen", Uml = "uml", Nvme = "nvme",
    }
    pub enum DiskFormat {
        Raw = "raw", Qcow2 = "qcow2", Qcow = "qcow", Qed = "qed", Vmdk = "vmdk", Vdi = "vdi", Vpc = "vpc",
        Vhd = "vhd", Luks = "luks", Dir = "dir", Bochs = "bochs", Cloop = "cloop", Cow = "cow",
        Dmg = "dmg", Iso = "iso", Fat = "fat", Ploop = "ploop",
    }
    pub enum DiskCache {
        Default = "default", None = "none", WriteThrough = "writethrough", WriteBack = "writeback",
        DirectSync = "directsync", Unsafe = "unsafe",
    }
    pub enum DiskIo { Threads = "threads", Native = "native", IoUring = "io_uring" }
    pub enum Discard { Unmap = "unmap", Ignore = "ignore" }
    pub enum DetectZeroes { Off = "off", On = "on", Unmap = "unmap" }
    pub enum ErrorPolicy { Stop = "stop", Report = "report", Ignore = "ignore", EnoSpace = "enospace" }
    pub enum ReadErrorPolicy { Stop = "stop", Report = "report", Ignore = "ignore" }
    pub enum SnapshotMode { No = "no", Internal = "internal", External = "external", Manual = "manual" }
    pub enum StartupPolicy { Mandatory = "mandatory", Requisite = "requisite", Optional = "optional" }
    pub enum NetworkProtocol {
        Nbd = "nbd", Iscsi = "iscsi", Rbd = "rbd", Sheepdog = "sheepdog", Gluster = "gluster", Http = "http",
        Https = "https", Ftp = "ftp", Ftps = "ftps", Tftp = "tftp", Vxhs = "vxhs", Nfs = "nfs", Ssh = "ssh",
    }
    pub enum HostTransport { Tcp = "tcp", Unix = "unix", Rdma = "rdma" }
    pub enum VolumeMode { Host = "host", Direct = "direct" }
    pub enum Tray { Open = "open", Closed = "closed" }
    /// The job of which a `<mirror>` is the other side.
    pub enum MirrorJob { Copy = "copy", ActiveCommit = "active-commit" }
    /// Whether both sides are the same, and which of them the guest is about to have.
    pub enum MirrorState { No = "no", Yes = "yes", Abort = "abort", Pivot = "pivot" }
    pub enum Translation { None = "none", Lba = "lba", Auto = "auto" }
}

impl DiskModel {
    /// `None` for the models of USB disks.
    pub fn virtio(self) -> Option<VirtioModel> {
        match self {
            Self::Virtio => Some(VirtioModel::Virtio),
            Self::Transitional => Some(VirtioModel::Transitional),
            Self::NonTransitional => Some(VirtioModel::NonTransitional),
            Self::UsbStorage | Self::UsbBot => None,
        }
    }
}

element! {
    pub struct Disk {
        attr("type") kind: Option<DiskType>,
        attr device: Option<DiskDevice>,
        attr model: Option<DiskModel>,
        attr rawio: Option<YesNo>,
        attr snapshot: Option<SnapshotMode>,
        child driver: Option<DiskDriver>,
        child source: Option<DiskSource>,
        child("backingStore") backing_store: Option<BackingStore>,
        child geometry: Option<Geometry>,
        child("blockio") block_io: Option<BlockIo>,
        child mirror: Option<DiskMirror>,
        child target: DiskTarget,
        child("iotune") io_tune: Option<IoTune>,
        child("readonly") read_only: bool,
        child shareable: bool,
        child transient: Option<Transient>,
        child serial: Option<String>,
        child wwn: Option<String>,
        child vendor: Option<String>,
        child product: Option<String>,
        child boot: Option<DeviceBoot>,
        leaf("alias" "name") alias: Option<String>,
        leaf("acpi" "index") acpi_index: Option<u32>,
        child address: Option<DeviceAddress>,
    }
    refuse ["@sgio", "auth", "encryption", "backenddomain", "privateData", "throttlefilters"];
    check Disk::check;
}

/// Where a disk's data is, by the disk's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location<'a> {
    /// An empty CD-ROM or floppy drive.
    Empty,
    File(&'a Path),
    Block(&'a Path),
    Dir(&'a Path),
    Volume {
        pool: &'a str,
        volume: &'a str,
    },
    Network {
        protocol: NetworkProtocol,
        source: &'a DiskSource,
    },
    /// NVMe, vhost-user and vDPA disks.
    Other(DiskType),
}

impl Disk {
    /// A disk of which no more is said.
    pub fn named(dev: String, bus: DiskBus) -> Self {
        let target =
            DiskTarget { dev, bus: Some(bus), tray: None, removable: None, rotation_rate: None };
        Self {
            kind: None,
            device: None,
            model: None,
            rawio: None,
            snapshot: None,
            driver: None,
            source: None,
            backing_store: None,
            geometry: None,
            block_io: None,
            mirror: None,
            target,
            io_tune: None,
            read_only: false,
            shareable: false,
            transient: None,
            serial: None,
            wwn: None,
            vendor: None,
            product: None,
            boot: None,
            alias: None,
            acpi_index: None,
            address: None,
        }
    }

    pub fn kind(&self) -> DiskType {
        self.kind.unwrap_or(DiskType::File)
    }

    pub fn device(&self) -> DiskDevice {
        self.device.unwrap_or(DiskDevice::Disk)
    }

    /// The controller of the disk's drive address, the first if it has none yet.
    pub fn drive_controller(&self) -> u32 {
        match &self.address {
            Some(DeviceAddress::Drive(drive)) => drive.controller.unwrap_or(0),
            _ => 0,
        }
    }

    /// The drive address that libvirt gives a disk by the letters of its name; `None` on buses whose
    /// disks have another kind of address.
    pub fn default_drive(&self) -> Option<DriveAddress> {
        if self.target.bus() == DiskBus::Nvme {
            let (controller, namespace) = self.target.namespace()?;
            let unit = namespace.checked_sub(1);
            let controller = Some(controller);
            return Some(DriveAddress { controller, bus: Some(0), target: Some(0), unit });
        }
        let number = self.target.number()?;
        let (controller, bus, unit) = match self.target.bus() {
            DiskBus::Ide => (number / 4, number % 4 / 2, number % 2),
            DiskBus::Sata => (number / 6, 0, number % 6),
            // Fifteen on a bus of sixteen: unit 7 was the controller's on parallel SCSI.
            DiskBus::Scsi => (number / 15, 0, number % 15 + u32::from(number % 15 >= 7)),
            DiskBus::Fdc => (number / 2, 0, number % 2),
            _ => return None,
        };
        let (controller, bus, target, unit) = (Some(controller), Some(bus), Some(0), Some(unit));
        Some(DriveAddress { controller, bus, target, unit })
    }

    pub fn location(&self) -> Location<'_> {
        let Some(source) = &self.source else { return Location::Empty };
        let found = match self.kind() {
            DiskType::File => source.file.as_deref().map(Location::File),
            DiskType::Block => source.dev.as_deref().map(Location::Block),
            DiskType::Dir => source.dir.as_deref().map(Location::Dir),
            DiskType::Volume => match (&source.pool, &source.volume) {
                (Some(pool), Some(volume)) => Some(Location::Volume { pool, volume }),
                _ => None,
            },
            DiskType::Network => {
                source.protocol.map(|protocol| Location::Network { protocol, source })
            }
            other => Some(Location::Other(other)),
        };
        found.unwrap_or(Location::Empty)
    }

    /// An image without a format is read as raw, also if its name promises something else.
    fn warn_of_format(&self, at: Cursor<'_>) {
        let told = self.driver.as_ref().is_some_and(|driver| driver.format.is_some());
        let Location::File(path) = self.location() else { return };
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let format = [DiskFormat::Qcow2, DiskFormat::Vmdk, DiskFormat::Vdi, DiskFormat::Vhd];
        if let (false, Some(format)) = (told, format.into_iter().find(|f| f.name() == ending)) {
            let mut report = at.here();
            report.suggestion = Some(format!("<driver name='qemu' type='{format}'/>"));
            let name = quote(&path.to_string_lossy());
            report.warn(
                Kind::Missing,
                format!("no <driver> gives the format of {name}, so it is read as raw"),
            );
        }
    }

    fn check(&self, at: Cursor<'_>) {
        self.warn_of_format(at);
        let removable = matches!(self.device(), DiskDevice::Cdrom | DiskDevice::Floppy);
        match at.child("source") {
            Some(source) => check_source(source, self.kind(), removable),
            None if removable => {}
            None => at.missing_child("source"),
        }
        if let Some(target) = at.child("target") {
            self.target.check_bus(target, self.device());
        }
        let usb = self.target.bus() == DiskBus::Usb;
        if let Some(model) = self.model.filter(|model| model.virtio().is_none() != usb) {
            let message = format!("a disk on the bus {} has no model {model}", self.target.bus());
            at.attribute_error("model", Kind::Invalid, message);
        }
        if let Some(serial) = at.child("serial")
            && let Some(bad) = self.serial.as_deref().and_then(bad_serial_character)
        {
            let mut report = serial.here();
            report.expected = Some("letters, digits, '-', '_', '.', '+' and spaces".to_owned());
            report.report(Kind::Invalid, format!("a serial number cannot hold {bad:?}"));
        }
    }
}

/// The bus and the firmware see the serial number, so libvirt restricts its characters.
fn bad_serial_character(serial: &str) -> Option<char> {
    serial.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_. +".contains(*c))
}

/// The attributes that say where the data is, and the type of disk each belongs to.
const PLACES: &[(DiskType, &[&str])] = &[
    (DiskType::File, &["file", "fdgroup"]),
    (DiskType::Block, &["dev"]),
    (DiskType::Dir, &["dir"]),
    (DiskType::Volume, &["pool", "volume", "mode"]),
    (DiskType::Network, &["protocol", "name", "tls", "tlsHostname", "query"]),
];

fn check_source(source: Cursor<'_>, kind: DiskType, removable: bool) {
    let own = PLACES.iter().find(|(of, _)| *of == kind).map_or(&[][..], |(_, names)| *names);
    let required: &[&'static str] = match kind {
        DiskType::Volume => &["pool", "volume"],
        DiskType::Network => &["protocol"],
        _ => own.get(..1).unwrap_or_default(),
    };
    // NVMe and vhost-user sources have attributes of these names too.
    let foreign = |name: &str| {
        !own.is_empty()
            && !own.contains(&name)
            && PLACES.iter().any(|(_, names)| names.contains(&name))
    };
    let mut told = false;
    for attribute in source.node().attributes().map(|a| a.name).filter(|name| foreign(name)) {
        let mut report = source.at_attribute(attribute);
        report.expected = required.first().map(|name| format!("{name}='…'"));
        let message = format!("a disk of type='{kind}' has no source {attribute}='…'");
        report.report(Kind::Invalid, message);
        told = true;
    }
    // An ejected medium is written as an empty source.
    let empty = source.node().attributes().all(|a| matches!(a.name, "startupPolicy" | "index"));
    let complete = told || (removable && empty);
    if !complete {
        for name in required.iter().filter(|name| source.attribute(name).is_none()) {
            source.missing_attribute(name);
        }
    }
}

element! {
    /// How the disk is accessed; `format` is written `type='qcow2'`.
    #[derive(Default)]
    pub struct DiskDriver {
        attr name: Option<String>,
        attr("type") format: Option<DiskFormat>,
        attr cache: Option<DiskCache>,
        attr("error_policy") error_policy: Option<ErrorPolicy>,
        attr("rerror_policy") read_error_policy: Option<ReadErrorPolicy>,
        attr io: Option<DiskIo>,
        attr ioeventfd: Option<OnOff>,
        attr("event_idx") event_idx: Option<OnOff>,
        attr("copy_on_read") copy_on_read: Option<OnOff>,
        attr discard: Option<Discard>,
        attr iothread: Option<u32>,
        attr("detect_zeroes") detect_zeroes: Option<DetectZeroes>,
        attr("discard_no_unref") discard_no_unref: Option<OnOff>,
        attr queues: Option<u32>,
        attr("queue_size") queue_size: Option<u32>,
        attr iommu: Option<OnOff>,
        attr ats: Option<OnOff>,
        attr packed: Option<OnOff>,
        attr("page_per_vq") page_per_vq: Option<OnOff>,
    }
    refuse ["metadata_cache", "iothreads", "statistics"];
}

element! {
    /// Only the attributes of the disk's own type may be set; [`Disk::location`] reads them.
    #[derive(Default)]
    pub struct DiskSource {
        attr file: Option<PathBuf>,
        attr fdgroup: Option<String>,
        attr dev: Option<PathBuf>,
        attr dir: Option<PathBuf>,
        attr protocol: Option<NetworkProtocol>,
        attr name: Option<String>,
        attr query: Option<String>,
        attr tls: Option<YesNo>,
        attr("tlsHostname") tls_hostname: Option<String>,
        attr pool: Option<String>,
        attr volume: Option<String>,
        attr mode: Option<VolumeMode>,
        attr("startupPolicy") startup_policy: Option<StartupPolicy>,
        attr index: Option<u32>,
        child("host") hosts: Vec<SourceHost>,
        child reconnect: Option<SourceReconnect>,
        leaf("snapshot" "name") snapshot: Option<String>,
        child("seclabel") security_labels: Vec<Verbatim>,
    }
    refuse [
        "@type", "@path", "@managed", "@namespace", "address", "auth", "config", "cookies", "encryption",
        "identity", "initiator", "knownHosts", "readahead", "reservations", "slices", "ssl", "timeout",
        "privateData", "dataStore",
    ];
}

element! {
    /// What becomes of requests when the server is lost.
    #[derive(Copy, Default)]
    pub struct SourceReconnect {
        /// Seconds that they wait for another connection.
        attr delay: Option<u32>,
    }
    refuse ["@enabled", "@timeout"];
}

element! {
    pub struct SourceHost {
        attr name: Option<String>,
        attr port: Option<u16>,
        attr transport: Option<HostTransport>,
        attr socket: Option<PathBuf>,
    }
}

element! {
    /// The image beneath. `<backingStore/>` says there is none; without it the image's own header is asked.
    #[derive(Default)]
    pub struct BackingStore {
        attr("type") kind: Option<DiskType>,
        attr index: Option<u32>,
        child format: Option<StoreFormat>,
        child source: Option<DiskSource>,
        child("backingStore") backing_store: Option<Box<BackingStore>>,
    }
    check BackingStore::check;
}

element! {
    /// Where a running domain's disk is being copied to. It is only told: nothing is begun by it.
    pub struct DiskMirror {
        attr("type") kind: DiskType,
        attr file: Option<PathBuf>,
        attr("format") file_format: Option<DiskFormat>,
        attr job: Option<MirrorJob>,
        attr ready: Option<MirrorState>,
        child format: Option<StoreFormat>,
        child source: Option<DiskSource>,
        child("backingStore") backing_store: Option<BackingStore>,
    }
}

element! {
    #[derive(Copy)]
    pub struct StoreFormat {
        attr("type") kind: DiskFormat,
    }
    refuse ["metadata_cache"];
}

impl Element for Box<BackingStore> {
    fn read(at: Cursor<'_>) -> Option<Self> {
        BackingStore::read(at).map(Self::new)
    }
    fn write(&self, name: &'static str, out: &mut Writer) {
        BackingStore::write(self, name, out);
    }
}

impl BackingStore {
    fn check(&self, at: Cursor<'_>) {
        let Some(kind) = self.kind else {
            if self.source.is_some() || self.format.is_some() {
                at.missing_attribute("type");
            }
            return;
        };
        match at.child("source") {
            Some(source) => check_source(source, kind, false),
            None => at.missing_child("source"),
        }
        if self.format.is_none() {
            at.missing_child("format");
        }
    }
}

element! {
    pub struct DiskTarget {
        attr dev: String,
        attr bus: Option<DiskBus>,
        attr tray: Option<Tray>,
        attr removable: Option<OnOff>,
        attr("rotation_rate") rotation_rate: Option<u32>,
    }
}

impl DiskTarget {
    /// The bus, told by the device's name where it is not given, as libvirt does.
    pub fn bus(&self) -> DiskBus {
        self.bus.unwrap_or_else(|| match self.dev.get(..2) {
            Some("hd") => DiskBus::Ide,
            Some("nv") => DiskBus::Nvme,
            Some("sd") => DiskBus::Scsi,
            Some("fd") => DiskBus::Fdc,
            Some("xv") => DiskBus::Xen,
            Some("ub") => DiskBus::Uml,
            _ => DiskBus::Virtio,
        })
    }

    /// The place among its kind that the letters of its name say: 0 for `sda`, 26 for `sdaa`.
    pub fn number(&self) -> Option<u32> {
        let prefix =
            ["vd", "sd", "hd", "fd", "xvd", "ubd"].iter().find_map(|p| self.dev.strip_prefix(p))?;
        // A partition counts as its disk.
        let letters = prefix.trim_end_matches(|c: char| c.is_ascii_digit());
        let valid = !letters.is_empty() && letters.bytes().all(|b| b.is_ascii_lowercase());
        let digits = valid.then(|| letters.bytes().map(|letter| u32::from(letter - b'a') + 1))?;
        let mut number = 0_u32;
        for digit in digits {
            number = number.checked_mul(26)?.checked_add(digit)?;
        }
        number.checked_sub(1)
    }

    /// Controller and namespace that the name of an NVMe disk says: `nvme0n1`.
    fn namespace(&self) -> Option<(u32, u32)> {
        let (controller, namespace) = self.dev.strip_prefix("nvme")?.split_once('n')?;
        let namespace = namespace.parse().ok().filter(|number| *number > 0)?;
        Some((controller.parse().ok()?, namespace))
    }

    fn check_bus(&self, at: Cursor<'_>, device: DiskDevice) {
        let prefix = ["vd", "sd", "hd", "fd", "xvd", "ubd", "nvme"]
            .into_iter()
            .find(|p| self.dev.starts_with(p));
        let suffix = prefix.map_or("", |prefix| &self.dev[prefix.len()..]);
        if suffix.is_empty()
            || suffix.len() > 10
            || !suffix.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            let mut report = at.at_attribute("dev");
            report.expected = Some("a name such as vda, sda, hda or fda".to_owned());
            let dev = quote(&self.dev);
            report.report(Kind::Invalid, format!("{dev} is not a disk name libvirt knows"));
            return;
        }
        let floppy_bus = self.bus() == DiskBus::Fdc;
        if floppy_bus != (device == DiskDevice::Floppy) {
            let message = format!("a {device} cannot be on the bus {}", self.bus());
            let at = if at.attribute("bus").is_some() {
                at.at_attribute("bus")
            } else {
                at.at_attribute("dev")
            };
            at.report(Kind::Invalid, message);
        }
    }
}

element! {
    pub struct Geometry {
        attr("cyls") cylinders: u32,
        attr heads: u32,
        attr("secs") sectors: u32,
        attr("trans") translation: Option<Translation>,
    }
}

element! {
    #[derive(Default)]
    pub struct BlockIo {
        attr("logical_block_size") logical_block_size: Option<u32>,
        attr("physical_block_size") physical_block_size: Option<u32>,
        attr("discard_granularity") discard_granularity: Option<u32>,
    }
}

element! {
    #[derive(Default)]
    pub struct Transient {
        attr("shareBacking") share_backing: Option<YesNo>,
    }
}

element! {
    /// Limits in bytes or requests per second.
    #[derive(Default)]
    pub struct IoTune {
        child("total_bytes_sec") total_bytes: Option<u64>,
        child("read_bytes_sec") read_bytes: Option<u64>,
        child("write_bytes_sec") write_bytes: Option<u64>,
        child("total_iops_sec") total_iops: Option<u64>,
        child("read_iops_sec") read_iops: Option<u64>,
        child("write_iops_sec") write_iops: Option<u64>,
        child("total_bytes_sec_max") total_bytes_max: Option<u64>,
        child("read_bytes_sec_max") read_bytes_max: Option<u64>,
        child("write_bytes_sec_max") write_bytes_max: Option<u64>,
        child("total_iops_sec_max") total_iops_max: Option<u64>,
        child("read_iops_sec_max") read_iops_max: Option<u64>,
        child("write_iops_sec_max") write_iops_max: Option<u64>,
        child("size_iops_sec") size_iops: Option<u64>,
        child("group_name") group_name: Option<String>,
        child("total_bytes_sec_max_length") total_bytes_max_length: Option<u64>,
        child("read_bytes_sec_max_length") read_bytes_max_length: Option<u64>,
        child("write_bytes_sec_max_length") write_bytes_max_length: Option<u64>,
        child("total_iops_sec_max_length") total_iops_max_length: Option<u64>,
        child("read_iops_sec_max_length") read_iops_max_length: Option<u64>,
        child("write_iops_sec_max_length") write_iops_max_length: Option<u64>,
    }
    check IoTune::check;
}

impl IoTune {
    fn check(&self, at: Cursor<'_>) {
        let clash = |total: Option<u64>, read: Option<u64>, write: Option<u64>| {
            total.is_some_and(|n| n > 0)
                && (read.is_some_and(|n| n > 0) || write.is_some_and(|n| n > 0))
        };
        for (what, clashes) in [
            ("bytes_sec", clash(self.total_bytes, self.read_bytes, self.write_bytes)),
            ("iops_sec", clash(self.total_iops, self.read_iops, self.write_iops)),
        ] {
            if clashes {
                let message = format!("total_{what} excludes read_{what} and write_{what}");
                at.error(Kind::Invalid, message);
            }
        }
    }
}

element! {
    /// `<boot order='1'/>` of a disk or interface.
    #[derive(Copy)]
    pub struct DeviceBoot {
        attr order: u32,
    }
    refuse ["@loadparm"];
    check DeviceBoot::check;
}

impl DeviceBoot {
    fn check(&self, at: Cursor<'_>) {
        if self.order == 0 {
            at.attribute_error("order", Kind::Invalid, "boot orders count from 1".to_owned());
        }
    }
}
