//! Memory: amounts with units, backing, NUMA tuning and limits.

use crate::cpuset::CpuSet;
use crate::cursor::{Cursor, Slot};
use crate::diagnostic::Kind;
use crate::element::{Attribute, Element, Text, element};
use crate::value::{OnOff, names};
use crate::write::Writer;

/// An amount of memory in KiB, which is how libvirt keeps and prints it; other units are rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kib(pub u64);

impl Kib {
    pub fn bytes(self) -> u64 {
        self.0.saturating_mul(1024)
    }

    /// `value` in `unit`, refused where the bytes do not fit 64 bits.
    fn scaled(value: u64, unit: Unit) -> Option<Self> {
        value.checked_mul(unit.bytes()).map(|bytes| Self(bytes.div_ceil(1024)))
    }
}

names! {
    /// libvirt's units; decimal ones end in `B`, binary ones in `iB`, and a bare letter means binary.
    pub enum Unit {
        B = "b", Bytes = "bytes",
        Kb = "KB", K = "k", KUpper = "K", KiB = "KiB",
        Mb = "MB", M = "M", MiB = "MiB",
        Gb = "GB", G = "G", GiB = "GiB",
        Tb = "TB", T = "T", TiB = "TiB",
        Pb = "PB", P = "P", PiB = "PiB",
        Eb = "EB", E = "E", EiB = "EiB",
    }
}

impl Unit {
    fn bytes(self) -> u64 {
        match self {
            Self::B | Self::Bytes => 1,
            Self::Kb => 1000,
            Self::K | Self::KUpper | Self::KiB => 1 << 10,
            Self::Mb => 1000_u64.pow(2),
            Self::M | Self::MiB => 1 << 20,
            Self::Gb => 1000_u64.pow(3),
            Self::G | Self::GiB => 1 << 30,
            Self::Tb => 1000_u64.pow(4),
            Self::T | Self::TiB => 1 << 40,
            Self::Pb => 1000_u64.pow(5),
            Self::P | Self::PiB => 1 << 50,
            Self::Eb => 1000_u64.pow(6),
            Self::E | Self::EiB => 1 << 60,
        }
    }
}

/// The number in `text` (or an attribute of that name) scaled by the element's `unit` attribute, KiB if absent.
fn read_scaled(at: Cursor<'_>, number: Option<u64>, attribute: Option<&str>) -> Option<Kib> {
    let unit = <Option<Unit> as Attribute>::read(at, "unit");
    let (number, unit) = (number?, unit?.unwrap_or(Unit::KiB));
    let scaled = Kib::scaled(number, unit);
    if scaled.is_none() {
        let mut report = attribute.map_or_else(|| at.here(), |name| at.at_attribute(name));
        report.expected = Some("less than 16 EiB".to_owned());
        report.report(Kind::Limit, format!("{number} {unit} does not fit 64 bits of bytes"));
    }
    scaled
}

/// `<memory unit='KiB'>1048576</memory>`
impl Element for Kib {
    fn read(at: Cursor<'_>) -> Option<Self> {
        at.expect(&[Slot::Attribute("unit"), Slot::Text], &[]);
        read_scaled(at, <u64 as Text>::read(at), None)
    }
    fn write(&self, name: &'static str, out: &mut Writer) {
        let mut tag = out.tag(name);
        tag.attribute("unit", "KiB");
        tag.text(&self.0.to_string());
    }
}

/// `<memory>`: what the guest has at start, and whether it goes into core dumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub size: Kib,
    pub dump_core: Option<OnOff>,
}

impl Element for Memory {
    fn read(at: Cursor<'_>) -> Option<Self> {
        at.expect(&[Slot::Attribute("unit"), Slot::Attribute("dumpCore"), Slot::Text], &[]);
        let size = read_scaled(at, <u64 as Text>::read(at), None);
        let dump_core = Attribute::read(at, "dumpCore");
        let size = size?;
        if size.0 == 0 {
            at.error(Kind::Invalid, "a guest needs some memory".to_owned());
        }
        Some(Self { size, dump_core: dump_core? })
    }
    fn write(&self, name: &'static str, out: &mut Writer) {
        let mut tag = out.tag(name);
        tag.attribute("unit", "KiB");
        Attribute::write(&self.dump_core, "dumpCore", &mut tag);
        tag.text(&self.size.0.to_string());
    }
}

/// `<maxMemory>`: the ceiling of memory hotplug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxMemory {
    pub size: Kib,
    pub slots: u32,
}

impl Element for MaxMemory {
    fn read(at: Cursor<'_>) -> Option<Self> {
        at.expect(&[Slot::Attribute("unit"), Slot::Attribute("slots"), Slot::Text], &[]);
        let size = read_scaled(at, <u64 as Text>::read(at), None);
        let slots = <u32 as Attribute>::read(at, "slots");
        Some(Self { size: size?, slots: slots? })
    }
    fn write(&self, name: &'static str, out: &mut Writer) {
        let mut tag = out.tag(name);
        Attribute::write(&self.slots, "slots", &mut tag);
        tag.attribute("unit", "KiB");
        tag.text(&self.size.0.to_string());
    }
}

names! {
    pub enum MemorySource { File = "file", Anonymous = "anonymous", Memfd = "memfd" }
    pub enum MemoryAccess { Shared = "shared", Private = "private" }
    pub enum AllocationMode { Immediate = "immediate", OnDemand = "ondemand" }
    pub enum NumaMode {
        Strict = "strict", Preferred = "preferred", Interleave = "interleave", Restrictive = "restrictive",
    }
    pub enum Placement { Static = "static", Auto = "auto" }
}

element! {
    #[derive(Default)]
    pub struct MemoryBacking {
        child("hugepages") huge_pages: Option<HugePages>,
        child("nosharepages") no_share_pages: bool,
        child locked: bool,
        leaf("source" "type") source: Option<MemorySource>,
        leaf("access" "mode") access: Option<MemoryAccess>,
        child allocation: Option<Allocation>,
        child discard: bool,
    }
}

element! {
    /// `<hugepages/>` without pages means the host's default size.
    #[derive(Default)]
    pub struct HugePages {
        child("page") pages: Vec<HugePage>,
    }
}

/// `<page size='2' unit='MiB' nodeset='0'/>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugePage {
    pub size: Kib,
    pub nodeset: Option<CpuSet>,
}

impl Element for HugePage {
    fn read(at: Cursor<'_>) -> Option<Self> {
        at.expect(&["size", "unit", "nodeset"].map(Slot::Attribute), &[]);
        let size = read_scaled(at, <u64 as Attribute>::read(at, "size"), Some("size"));
        let nodeset = Attribute::read(at, "nodeset");
        Some(Self { size: size?, nodeset: nodeset? })
    }
    fn write(&self, name: &'static str, out: &mut Writer) {
        let mut tag = out.tag(name);
        tag.attribute("size", &self.size.0.to_string());
        tag.attribute("unit", "KiB");
        Attribute::write(&self.nodeset, "nodeset", &mut tag);
        tag.empty();
    }
}

element! {
    #[derive(Default)]
    pub struct Allocation {
        attr mode: Option<AllocationMode>,
        attr threads: Option<u32>,
    }
}

element! {
    #[derive(Default)]
    pub struct NumaTune {
        child memory: Option<NumaMemory>,
        child("memnode") nodes: Vec<NumaNode>,
    }
}

element! {
    #[derive(Default)]
    pub struct NumaMemory {
        attr mode: Option<NumaMode>,
        attr nodeset: Option<CpuSet>,
        attr placement: Option<Placement>,
    }
}

element! {
    pub struct NumaNode {
        attr("cellid") cell: u32,
        attr mode: Option<NumaMode>,
        attr nodeset: CpuSet,
    }
}

element! {
    #[derive(Default)]
    pub struct MemoryTune {
        child("hard_limit") hard_limit: Option<Kib>,
        child("soft_limit") soft_limit: Option<Kib>,
        child("min_guarantee") min_guarantee: Option<Kib>,
        child("swap_hard_limit") swap_hard_limit: Option<Kib>,
    }
}

/// The memory of a NUMA cell: `memory='512' unit='MiB'` on the cell itself.
pub(crate) fn read_cell_memory(at: Cursor<'_>) -> Option<Kib> {
    read_scaled(at, <u64 as Attribute>::read(at, "memory"), Some("memory"))
}
