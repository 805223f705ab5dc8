//! Named CPU models: those of libvirt's `cpu_map` that run 64-bit guests, with the features that
//! QEMU gives each by default.
//!
//! Left out of them, because nothing here provides it: MONITOR, nested virtualisation (its state is
//! not saved), and performance counters.

/// A CPU model as data: what it adds to another one, and takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    pub name: &'static str,
    /// Empty: the host's.
    pub vendor: Vendor,
    pub family: u32,
    pub model: u32,
    pub stepping: u32,
    /// As `/proc/cpuinfo` shows it.
    pub brand: &'static str,
    base: &'static str,
    add: &'static str,
    remove: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    Host,
    Intel,
    Amd,
    Hygon,
}

impl Vendor {
    /// The string of leaf 0.
    #[must_use]
    pub fn id(self) -> Option<&'static [u8; 12]> {
        match self {
            Self::Host => None,
            Self::Intel => Some(b"GenuineIntel"),
            Self::Amd => Some(b"AuthenticAMD"),
            Self::Hygon => Some(b"HygonGenuine"),
        }
    }

    /// libvirt's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "the host's",
            Self::Intel => "Intel",
            Self::Amd => "AMD",
            Self::Hygon => "Hygon",
        }
    }
}

/// What every 64-bit processor has.
const X86_64: &str = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx \
    fxsr sse sse2 pni syscall nx lm";
const SANDY_BRIDGE: &str = "avx xsave xsaveopt x2apic tsc-deadline rdtscp";
const IVY_BRIDGE: &str = "f16c rdrand fsgsbase smep erms arat";
const HASWELL: &str = "fma movbe bmi1 avx2 bmi2 invpcid pcid abm";
const BROADWELL: &str = "rdseed adx smap 3dnowprefetch";
const SKYLAKE_SERVER: &str = "pdpe1gb clwb avx512f avx512dq avx512bw avx512cd avx512vl pku";
const ICELAKE: &str = "avx512vbmi umip avx512vbmi2 gfni vaes vpclmulqdq avx512bitalg avx512-vpopcntdq la57 \
    wbnoinvd";
const EPYC: &str = "rdrand f16c avx xsave aes popcnt movbe sse4.2 sse4.1 cx16 fma ssse3 pclmuldq rdtscp \
    pdpe1gb fxsr_opt mmxext osvw 3dnowprefetch misalignsse sse4a abm cr8legacy lahf_lm topoext fsgsbase bmi1 \
    avx2 smep bmi2 rdseed adx smap clflushopt sha-ni xsaveopt xsavec xgetbv1 arat";

const fn intel(
    name: &'static str,
    (model, stepping): (u32, u32),
    brand: &'static str,
    base: &'static str,
    add: &'static str,
    remove: &'static str,
) -> Model {
    Model { name, vendor: Vendor::Intel, family: 6, model, stepping, brand, base, add, remove }
}

const fn amd(
    name: &'static str,
    (family, model, stepping): (u32, u32, u32),
    brand: &'static str,
    base: &'static str,
    add: &'static str,
) -> Model {
    Model { name, vendor: Vendor::Amd, family, model, stepping, brand, base, add, remove: "" }
}

const fn plain(
    name: &'static str,
    (family, model, stepping): (u32, u32, u32),
    brand: &'static str,
    add: &'static str,
) -> Model {
    let (vendor, base, remove) = (Vendor::Host, "", "");
    Model { name, vendor, family, model, stepping, brand, base, add, remove }
}

/// All models; a base stands before what is built on it.
pub const ALL: &[Model] = &[
    plain("x86-64", (15, 6, 1), "", X86_64),
    plain("kvm64", (15, 6, 1), "Common KVM processor", "x86-64 cx16"),
    plain("qemu64", (15, 107, 1), "Virtual CPU", "x86-64 cx16 lahf_lm"),
    intel(
        "Conroe",
        (15, 3),
        "Intel Celeron_4x0 (Conroe/Merom Class Core 2)",
        "x86-64",
        "ssse3 lahf_lm",
        "",
    ),
    intel(
        "Penryn",
        (23, 3),
        "Intel Core 2 Duo P9xxx (Penryn Class Core 2)",
        "Conroe",
        "cx16 sse4.1",
        "",
    ),
    intel("core2duo", (15, 11), "Intel(R) Core(TM)2 Duo CPU T7700 @ 2.40GHz", "Conroe", "cx16", ""),
    intel(
        "Nehalem",
        (26, 3),
        "Intel Core i7 9xx (Nehalem Class Core i7)",
        "Penryn",
        "sse4.2 popcnt",
        "",
    ),
    intel(
        "Nehalem-IBRS",
        (26, 3),
        "Intel Core i7 9xx (Nehalem, IBRS update)",
        "Nehalem",
        "spec-ctrl",
        "",
    ),
    intel(
        "Westmere",
        (44, 1),
        "Westmere E56xx/L56xx/X56xx (Nehalem-C)",
        "Nehalem",
        "aes pclmuldq arat",
        "",
    ),
    intel(
        "Westmere-IBRS",
        (44, 1),
        "Westmere E56xx/L56xx/X56xx (IBRS update)",
        "Westmere",
        "spec-ctrl",
        "",
    ),
    intel("SandyBridge", (42, 1), "Intel Xeon E312xx (Sandy Bridge)", "Westmere", SANDY_BRIDGE, ""),
    intel(
        "SandyBridge-IBRS",
        (42, 1),
        "Intel Xeon E312xx (Sandy Bridge, IBRS update)",
        "SandyBridge",
        "spec-ctrl",
        "",
    ),
    intel(
        "IvyBridge",
        (58, 9),
        "Intel Xeon E3-12xx v2 (Ivy Bridge)",
        "SandyBridge",
        IVY_BRIDGE,
        "",
    ),
    intel(
        "IvyBridge-IBRS",
        (58, 9),
        "Intel Xeon E3-12xx v2 (Ivy Bridge, IBRS)",
        "IvyBridge",
        "spec-ctrl",
        "",
    ),
    intel(
        "Haswell-noTSX",
        (60, 1),
        "Intel Core Processor (Haswell, no TSX)",
        "IvyBridge",
        HASWELL,
        "",
    ),
    intel(
        "Haswell-noTSX-IBRS",
        (60, 1),
        "Intel Core Processor (Haswell, no TSX, IBRS)",
        "Haswell-noTSX",
        "spec-ctrl",
        "",
    ),
    intel("Haswell", (60, 4), "Intel Core Processor (Haswell)", "Haswell-noTSX", "hle rtm", ""),
    intel(
        "Haswell-IBRS",
        (60, 4),
        "Intel Core Processor (Haswell, IBRS)",
        "Haswell",
        "spec-ctrl",
        "",
    ),
    intel(
        "Broadwell-noTSX",
        (61, 2),
        "Intel Core Processor (Broadwell, no TSX)",
        "Haswell-noTSX",
        BROADWELL,
        "",
    ),
    intel(
        "Broadwell-noTSX-IBRS",
        (61, 2),
        "Intel Core Processor (Broadwell, no TSX, IBRS)",
        "Broadwell-noTSX",
        "spec-ctrl",
        "",
    ),
    intel(
        "Broadwell",
        (61, 2),
        "Intel Core Processor (Broadwell)",
        "Broadwell-noTSX",
        "hle rtm",
        "",
    ),
    intel(
        "Broadwell-IBRS",
        (61, 2),
        "Intel Core Processor (Broadwell, IBRS)",
        "Broadwell",
        "spec-ctrl",
        "",
    ),
    intel(
        "Skylake-Client",
        (94, 3),
        "Intel Core Processor (Skylake)",
        "Broadwell",
        "xsavec xgetbv1",
        "",
    ),
    intel(
        "Skylake-Client-IBRS",
        (94, 3),
        "Intel Core Processor (Skylake, IBRS)",
        "Skylake-Client",
        "spec-ctrl ssbd",
        "",
    ),
    intel(
        "Skylake-Client-noTSX-IBRS",
        (94, 3),
        "Intel Core Processor (Skylake, IBRS, no TSX)",
        "Skylake-Client-IBRS",
        "",
        "hle rtm",
    ),
    intel(
        "Skylake-Server",
        (85, 4),
        "Intel Xeon Processor (Skylake)",
        "Skylake-Client",
        SKYLAKE_SERVER,
        "",
    ),
    intel(
        "Skylake-Server-IBRS",
        (85, 4),
        "Intel Xeon Processor (Skylake, IBRS)",
        "Skylake-Server",
        "spec-ctrl ssbd",
        "",
    ),
    intel(
        "Skylake-Server-noTSX-IBRS",
        (85, 4),
        "Intel Xeon Processor (Skylake, IBRS, no TSX)",
        "Skylake-Server-IBRS",
        "",
        "hle rtm",
    ),
    intel(
        "Cascadelake-Server",
        (85, 6),
        "Intel Xeon Processor (Cascadelake)",
        "Skylake-Server-IBRS",
        "clflushopt avx512vnni",
        "",
    ),
    intel(
        "Cascadelake-Server-noTSX",
        (85, 6),
        "Intel Xeon Processor (Cascadelake)",
        "Cascadelake-Server",
        "",
        "hle rtm",
    ),
    intel(
        "Cooperlake",
        (85, 10),
        "Intel Xeon Processor (Cooperlake)",
        "Cascadelake-Server",
        "stibp arch-capabilities avx512-bf16",
        "",
    ),
    intel(
        "Icelake-Server",
        (134, 0),
        "Intel Xeon Processor (Icelake)",
        "Cascadelake-Server",
        ICELAKE,
        "",
    ),
    intel(
        "Icelake-Server-noTSX",
        (134, 0),
        "Intel Xeon Processor (Icelake)",
        "Icelake-Server",
        "",
        "hle rtm",
    ),
    intel(
        "Snowridge",
        (134, 1),
        "Intel Atom Processor (SnowRidge)",
        "Westmere",
        "x2apic movbe tsc-deadline xsave xsaveopt xsavec xgetbv1 rdrand pdpe1gb rdtscp 3dnowprefetch fsgsbase \
         smep erms rdseed smap clflushopt clwb sha-ni umip gfni movdiri movdir64b cldemote spec-ctrl \
         arch-capabilities ssbd",
        "",
    ),
    intel(
        "SapphireRapids",
        (143, 4),
        "Intel Xeon Processor (SapphireRapids)",
        "Icelake-Server",
        "avx512ifma sha-ni rdpid fsrm serialize tsx-ldtrk avx512-fp16 avx-vnni avx512-bf16 fzrm fsrs fsrc \
         bus-lock-detect arch-capabilities amx-bf16 amx-tile amx-int8 xfd",
        "",
    ),
    amd("Opteron_G1", (15, 6, 1), "AMD Opteron 240 (Gen 1 Class Opteron)", "x86-64", ""),
    amd(
        "Opteron_G2",
        (15, 6, 1),
        "AMD Opteron 22xx (Gen 2 Class Opteron)",
        "x86-64",
        "cx16 lahf_lm",
    ),
    amd(
        "Opteron_G3",
        (16, 2, 3),
        "AMD Opteron 23xx (Gen 3 Class Opteron)",
        "Opteron_G2",
        "popcnt rdtscp misalignsse sse4a abm",
    ),
    amd(
        "Opteron_G4",
        (21, 1, 2),
        "AMD Opteron 62xx class CPU",
        "Opteron_G3",
        "aes avx pclmuldq sse4.1 sse4.2 ssse3 xsave pdpe1gb fma4 xop 3dnowprefetch",
    ),
    amd("Opteron_G5", (21, 2, 0), "AMD Opteron 63xx class CPU", "Opteron_G4", "f16c fma tbm"),
    amd("EPYC", (23, 1, 2), "AMD EPYC Processor", "x86-64", EPYC),
    amd("EPYC-IBPB", (23, 1, 2), "AMD EPYC Processor (with IBPB)", "EPYC", "ibpb"),
    amd(
        "EPYC-Rome",
        (23, 49, 0),
        "AMD EPYC-Rome Processor",
        "EPYC-IBPB",
        "clwb rdpid umip wbnoinvd clzero xsaveerptr amd-stibp",
    ),
    amd(
        "EPYC-Milan",
        (25, 1, 1),
        "AMD EPYC-Milan Processor",
        "EPYC-Rome",
        "pcid erms invpcid pku fsrm ibrs amd-ssbd",
    ),
    amd(
        "EPYC-Genoa",
        (25, 17, 0),
        "AMD EPYC-Genoa Processor",
        "EPYC-Milan",
        "avx512f avx512dq avx512ifma avx512cd avx512bw avx512vl avx512vbmi avx512vbmi2 gfni vaes vpclmulqdq \
         avx512vnni avx512bitalg avx512-vpopcntdq la57 avx512-bf16 stibp-always-on amd-psfd no-nested-data-bp \
         lfence-always-serializing null-sel-clr-base auto-ibrs",
    ),
    Model {
        name: "Dhyana",
        vendor: Vendor::Hygon,
        family: 24,
        model: 0,
        stepping: 1,
        brand: "Hygon Dhyana Processor",
        base: "EPYC-IBPB",
        add: "",
        remove: "sha-ni",
    },
];

/// The base of the others has a name that nobody can ask for.
const HIDDEN: &str = "x86-64";

/// Models that can be asked for.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|model| model.name).filter(|name| *name != HIDDEN)
}

#[must_use]
pub fn find(name: &str) -> Option<&'static Model> {
    by_name(name).filter(|model| model.name != HIDDEN)
}

fn by_name(name: &str) -> Option<&'static Model> {
    ALL.iter().find(|model| model.name == name)
}

impl Model {
    /// Names of its features.
    #[must_use]
    pub fn features(&self) -> Vec<&'static str> {
        let mut found = by_name(self.base).map(Self::features).unwrap_or_default();
        for word in self.add.split_whitespace() {
            match by_name(word) {
                Some(model) => found.extend(model.features()),
                None => found.push(word),
            }
        }
        found.retain(|name| !self.remove.split_whitespace().any(|gone| gone == *name));
        found.sort_unstable();
        found.dedup();
        found
    }

    /// EAX of leaf 1.
    #[must_use]
    pub fn signature(&self) -> u32 {
        let (base, extended) =
            if self.family > 15 { (15, self.family - 15) } else { (self.family, 0) };
        extended << 20 | self.model >> 4 << 16 | base << 8 | (self.model & 15) << 4 | self.stepping
    }
}

#[cfg(test)]
mod tests {
    use super::super::features;
    use super::*;

    #[test]
    fn every_model_names_features_that_exist_and_a_base_before_it() {
        for (at, model) in ALL.iter().enumerate() {
            for name in model.features() {
                assert!(features::find(name).is_some(), "{}: {name}", model.name);
            }
            for gone in model.remove.split_whitespace() {
                assert!(features::find(gone).is_some(), "{}: {gone}", model.name);
            }
            let before = ALL[..at].iter().any(|base| base.name == model.base);
            assert!(model.base.is_empty() || before, "{}", model.name);
            assert!(model.brand.len() < 48, "{}: {}", model.name, model.brand.len());
        }
        let mut all: Vec<_> = names().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), ALL.len() - 1, "no name twice");
    }

    #[test]
    fn signatures_are_those_of_the_real_processors() {
        let signature = |name| find(name).unwrap().signature();
        assert_eq!(signature("Skylake-Server"), 0x5_0654);
        assert_eq!(signature("Haswell"), 0x3_06c4);
        assert_eq!(signature("EPYC"), 0x80_0f12);
        assert_eq!(signature("EPYC-Milan"), 0xa0_0f11);
        assert_eq!(signature("kvm64"), 0xf61);
    }

    #[test]
    fn a_model_without_tsx_is_the_other_without_two_features() {
        let [with, without] =
            ["Icelake-Server", "Icelake-Server-noTSX"].map(|n| find(n).unwrap().features());
        let gone: Vec<_> = with.iter().filter(|name| !without.contains(name)).collect();
        assert_eq!(gone, [&"hle", &"rtm"]);
    }

    #[test]
    fn the_base_of_all_is_no_model() {
        assert!(find("x86-64").is_none() && find("Penryn").is_some());
    }
}
