//! Memory: amounts with units, backing, NUMA tuning and limits.

use std::borrow::Cow;

use crate::cpuset::CpuSet;
use crate::cursor::{Cursor, Slot, trim};
use crate::diagnostic::Kind;
use crate::element::{Attribute, Element, Text, element};
use crate::report::cut;
use crate::value::{Expected, OnOff, Value, names};
use crate::write::Writer;

/// An amount of memory in KiB, which is how libvirt keeps and prints it; other units are rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kib(pub u64);

impl Kib {
    pub fn bytes(self) -> u64 {
        self.0.saturating_mul(1024)
    }

    /// `value` in `unit`, refused where the bytes do not fit 64 bits.
    fn scaled(value: u64, unit: u64) -> Option<Self> {
        value.checked_mul(unit).map(|bytes| Self(bytes.div_ceil(1024)))
    }
}

/// Bytes in a unit, in any case: `b` or `bytes`; decimal ones end in `B`, binary ones in `iB` or have no ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) bytes: u64,
    text: String,
}

const UNITS: &[&str] =
    &["b", "bytes", "KB", "KiB", "MB", "MiB", "GB", "GiB", "TB", "TiB", "PB", "PiB", "EB", "EiB"];

impl Value for Unit {
    fn parse(text: &str) -> Result<Self, Expected> {
        let unknown = || Expected::Names(UNITS);
        let lower = text.to_ascii_lowercase();
        let unit = |bytes| Self { bytes, text: text.to_owned() };
        if matches!(lower.as_str(), "b" | "byte" | "bytes") {
            return Ok(unit(1));
        }
        let letter = lower.chars().next().ok_or_else(unknown)?;
        let power =
            "kmgtpe".find(letter).and_then(|at| u32::try_from(at + 1).ok()).ok_or_else(unknown)?;
        let base: u64 = match &lower[1..] {
            "" | "ib" => 1024,
            "b" => 1000,
            _ => return Err(unknown()),
        };
        Ok(unit(base.pow(power)))
    }
    fn print(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.text)
    }
}

/// The element's number; `2GiB` gets a word of its own, because everyone writes it once.
pub(crate) fn read_amount(at: Cursor<'_>) -> Option<u64> {
    let text = at.text();
    let text = trim(&text);
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let (number, unit) = text.split_at(text.len() - digits.len());
    if !number.is_empty() && !unit.is_empty() && Unit::parse(unit.trim()).is_ok() {
        let (name, unit) = (at.name(), unit.trim());
        let mut report = at.here();
        report.suggestion = Some(format!("<{name} unit='{unit}'>{}</{name}>", cut(number)));
        report.report(Kind::Invalid, format!("the unit of <{name}> is an attribute"));
        return None;
    }
    <u64 as Text>::read(at)
}

/// The number in `text` (or an attribute of that name) scaled by the element's `unit` attribute, KiB if absent.
fn read_scaled(at: Cursor<'_>, number: Option<u64>, attribute: Option<&str>) -> Option<Kib> {
    let unit = <Option<Unit> as Attribute>::read(at, "unit");
    let (number, unit) = (number?, unit?);
    let scaled = Kib::scaled(number, unit.as_ref().map_or(1024, |unit| unit.bytes));
    if scaled.is_none() {
        let mut report = attribute.map_or_else(|| at.here(), |name| at.at_attribute(name));
        report.expected = Some("less than 16 EiB".to_owned());
        let unit = unit.as_ref().map_or("KiB", |unit| unit.text.as_str());
        report.report(Kind::Limit, format!("{number} {unit} does not fit 64 bits of bytes"));
    }
    scaled
}

/// `<memory unit='KiB'>1048576</memory>`
impl Element for Kib {
    fn read(at: Cursor<'_>) -> Option<Self> {
        at.expect(&[Slot::Attribute("unit"), Slot::Text], &[]);
        read_scaled(at, read_amount(at), None)
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
        let size = read_scaled(at, read_amount(at), None);
        let dump_core = Attribute::read(at, "dumpCore");
        let size = size?;
        if size.0 == 0 {
            at.error(Kind::Invalid, "a guest needs some memory".to_owned());
        }
        Some(Self { size, dump_core: dump_core? })
    }
    fn write(&self, name: &'static str, out: &mut Writer) {
        let mut tag = out.tag(name);
        Attribute::write(&self.dump_core, "dumpCore", &mut tag);
        tag.attribute("unit", "KiB");
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
        let size = read_scaled(at, read_amount(at), None);
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
