//! Virtual CPUs: how many, of what model, where they run.

use crate::cpuset::CpuSet;
use crate::cursor::{Cursor, Slot};
use crate::diagnostic::Kind;
use crate::domain::memory::{Kib, MemoryAccess, Placement, read_cell_memory};
use crate::element::{Attribute, Child, Element, element};
use crate::value::{OnOff, YesNo, names};
use crate::write::Writer;

element! {
    /// `<vcpu>`: the most vCPUs the guest can have, and how many it starts with.
    pub struct Vcpu {
        attr placement: Option<Placement>,
        attr cpuset: Option<CpuSet>,
        attr current: Option<u16>,
        text max: u16,
    }
    check Vcpu::check;
}

impl Vcpu {
    fn check(&self, at: Cursor<'_>) {
        if self.max == 0 {
            at.error(Kind::Invalid, "a guest needs at least one vCPU".to_owned());
        }
        match self.current {
            Some(0) => at.attribute_error(
                "current",
                Kind::Invalid,
                "a guest starts with at least one vCPU".to_owned(),
            ),
            Some(current) if current > self.max => {
                let message =
                    format!("{current} vCPUs at start are more than the {} there can be", self.max);
                at.attribute_error("current", Kind::Invalid, message);
            }
            _ => {}
        }
    }
}

element! {
    #[derive(Default)]
    pub struct Vcpus {
        child("vcpu") vcpus: Vec<VcpuState>,
    }
}

element! {
    pub struct VcpuState {
        attr id: u32,
        attr enabled: YesNo,
        attr hotpluggable: Option<YesNo>,
        attr order: Option<u32>,
    }
}

names! {
    pub enum CpuMode {
        Custom = "custom", HostModel = "host-model", HostPassthrough = "host-passthrough", Maximum = "maximum",
    }
    pub enum CpuMatch { Minimum = "minimum", Exact = "exact", Strict = "strict" }
    pub enum CpuCheck { None = "none", Partial = "partial", Full = "full" }
    pub enum ModelFallback { Allow = "allow", Forbid = "forbid" }
    pub enum FeaturePolicy {
        Force = "force", Require = "require", Optional = "optional", Disable = "disable", Forbid = "forbid",
    }
    pub enum CpuCacheMode { Emulate = "emulate", Passthrough = "passthrough", Disable = "disable" }
    pub enum PhysAddrMode { Emulate = "emulate", Passthrough = "passthrough" }
}

element! {
    #[derive(Default)]
    pub struct Cpu {
        attr mode: Option<CpuMode>,
        attr("match") matching: Option<CpuMatch>,
        attr check: Option<CpuCheck>,
        attr migratable: Option<OnOff>,
        child model: Option<CpuModel>,
        child vendor: Option<String>,
        child topology: Option<Topology>,
        child cache: Option<CpuCache>,
        child("maxphysaddr") max_phys_addr: Option<MaxPhysAddr>,
        child("feature") features: Vec<CpuFeature>,
        child numa: Option<Numa>,
    }
    refuse ["@deprecated_features"];
}

element! {
    pub struct CpuModel {
        attr fallback: Option<ModelFallback>,
        attr("vendor_id") vendor_id: Option<String>,
        text name: Option<String>,
    }
}

element! {
    pub struct Topology {
        attr sockets: u32,
        attr dies: Option<u32>,
        attr clusters: Option<u32>,
        attr cores: u32,
        attr threads: u32,
    }
    check Topology::check;
}

impl Topology {
    /// Threads in the whole guest; `None` when they do not fit.
    pub fn vcpus(&self) -> Option<u32> {
        let packages = self
            .sockets
            .checked_mul(self.dies.unwrap_or(1))?
            .checked_mul(self.clusters.unwrap_or(1))?;
        packages.checked_mul(self.cores)?.checked_mul(self.threads)
    }

    fn check(&self, at: Cursor<'_>) {
        let (kind, message) = match self.vcpus() {
            None => (Kind::Limit, "the topology has more threads than can be counted"),
            Some(0) => (Kind::Invalid, "each level of the topology needs at least one"),
            Some(_) => return,
        };
        at.error(kind, message.to_owned());
    }
}

element! {
    pub struct CpuCache {
        attr level: Option<u32>,
        attr mode: CpuCacheMode,
    }
}

element! {
    pub struct MaxPhysAddr {
        attr mode: PhysAddrMode,
        attr bits: Option<u32>,
        attr limit: Option<u32>,
    }
}

element! {
    pub struct CpuFeature {
        attr policy: Option<FeaturePolicy>,
        attr name: String,
    }
}

element! {
    pub struct Numa {
        child("cell") cells: Vec<Cell>,
    }
    refuse ["interconnects"];
}

/// One guest NUMA node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    pub id: Option<u32>,
    pub cpus: Option<CpuSet>,
    pub memory: Kib,
    pub access: Option<MemoryAccess>,
    pub discard: Option<YesNo>,
    pub distances: Option<Distances>,
}

impl Element for Cell {
    fn read(at: Cursor<'_>) -> Option<Self> {
        let attributes =
            ["id", "cpus", "memory", "unit", "memAccess", "discard"].map(Slot::Attribute);
        let [a, b, c, d, e, f] = attributes;
        at.expect(&[a, b, c, d, e, f, Slot::Child { name: "distances", many: false }], &["cache"]);
        let id = Attribute::read(at, "id");
        let cpus = Attribute::read(at, "cpus");
        let memory = read_cell_memory(at);
        let access = Attribute::read(at, "memAccess");
        let discard = Attribute::read(at, "discard");
        let distances = Child::read(at, "distances");
        Some(Self {
            id: id?,
            cpus: cpus?,
            memory: memory?,
            access: access?,
            discard: discard?,
            distances: distances?,
        })
    }

    fn write(&self, name: &'static str, out: &mut Writer) {
        let mut tag = out.tag(name);
        Attribute::write(&self.id, "id", &mut tag);
        Attribute::write(&self.cpus, "cpus", &mut tag);
        tag.attribute("memory", &self.memory.0.to_string());
        tag.attribute("unit", "KiB");
        Attribute::write(&self.access, "memAccess", &mut tag);
        Attribute::write(&self.discard, "discard", &mut tag);
        tag.children(|out| Child::write(&self.distances, "distances", out));
    }
}

element! {
    #[derive(Default)]
    pub struct Distances {
        child("sibling") siblings: Vec<Sibling>,
    }
}

element! {
    pub struct Sibling {
        attr id: u32,
        attr value: u32,
    }
}
