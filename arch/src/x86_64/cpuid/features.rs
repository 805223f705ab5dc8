//! CPU features by the names that libvirt gives them (its `cpu_map/x86_features.xml`), and where
//! CPUID tells of each.

/// A register of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// One bit of CPUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Feature {
    pub name: &'static str,
    pub leaf: u32,
    pub index: u32,
    pub register: Register,
    pub bit: u8,
}

type Group = (u32, u32, Register, &'static [(u8, &'static str)]);

const GROUPS: &[Group] = &[
    (1, 0, Register::Ecx, LEAF_1_ECX),
    (1, 0, Register::Edx, LEAF_1_EDX),
    (6, 0, Register::Eax, &[(2, "arat")]),
    (7, 0, Register::Ebx, LEAF_7_EBX),
    (7, 0, Register::Ecx, LEAF_7_ECX),
    (7, 0, Register::Edx, LEAF_7_EDX),
    (
        7,
        1,
        Register::Eax,
        &[
            (4, "avx-vnni"),
            (5, "avx512-bf16"),
            (7, "cmpccxadd"),
            (10, "fzrm"),
            (11, "fsrs"),
            (12, "fsrc"),
            (21, "amx-fp16"),
            (23, "avx-ifma"),
        ],
    ),
    (
        0xd,
        1,
        Register::Eax,
        &[(0, "xsaveopt"), (1, "xsavec"), (2, "xgetbv1"), (3, "xsaves"), (4, "xfd")],
    ),
    (0x8000_0001, 0, Register::Ecx, EXTENDED_1_ECX),
    (0x8000_0001, 0, Register::Edx, EXTENDED_1_EDX),
    (0x8000_0007, 0, Register::Edx, &[(8, "invtsc")]),
    (0x8000_0008, 0, Register::Ebx, EXTENDED_8_EBX),
    (
        0x8000_0021,
        0,
        Register::Eax,
        &[
            (0, "no-nested-data-bp"),
            (2, "lfence-always-serializing"),
            (6, "null-sel-clr-base"),
            (8, "auto-ibrs"),
        ],
    ),
];

const LEAF_1_ECX: &[(u8, &str)] = &[
    (0, "pni"),
    (1, "pclmuldq"),
    (2, "dtes64"),
    (3, "monitor"),
    (4, "ds_cpl"),
    (5, "vmx"),
    (6, "smx"),
    (7, "est"),
    (8, "tm2"),
    (9, "ssse3"),
    (10, "cid"),
    (12, "fma"),
    (13, "cx16"),
    (14, "xtpr"),
    (15, "pdcm"),
    (17, "pcid"),
    (18, "dca"),
    (19, "sse4.1"),
    (20, "sse4.2"),
    (21, "x2apic"),
    (22, "movbe"),
    (23, "popcnt"),
    (24, "tsc-deadline"),
    (25, "aes"),
    (26, "xsave"),
    (27, "osxsave"),
    (28, "avx"),
    (29, "f16c"),
    (30, "rdrand"),
    (31, "hypervisor"),
];

const LEAF_1_EDX: &[(u8, &str)] = &[
    (0, "fpu"),
    (1, "vme"),
    (2, "de"),
    (3, "pse"),
    (4, "tsc"),
    (5, "msr"),
    (6, "pae"),
    (7, "mce"),
    (8, "cx8"),
    (9, "apic"),
    (11, "sep"),
    (12, "mtrr"),
    (13, "pge"),
    (14, "mca"),
    (15, "cmov"),
    (16, "pat"),
    (17, "pse36"),
    (18, "pn"),
    (19, "clflush"),
    (21, "ds"),
    (22, "acpi"),
    (23, "mmx"),
    (24, "fxsr"),
    (25, "sse"),
    (26, "sse2"),
    (27, "ss"),
    (28, "ht"),
    (29, "tm"),
    (30, "ia64"),
    (31, "pbe"),
];

const LEAF_7_EBX: &[(u8, &str)] = &[
    (0, "fsgsbase"),
    (1, "tsc_adjust"),
    (2, "sgx"),
    (3, "bmi1"),
    (4, "hle"),
    (5, "avx2"),
    (7, "smep"),
    (8, "bmi2"),
    (9, "erms"),
    (10, "invpcid"),
    (11, "rtm"),
    (12, "cmt"),
    (14, "mpx"),
    (15, "rdt_a"),
    (16, "avx512f"),
    (17, "avx512dq"),
    (18, "rdseed"),
    (19, "adx"),
    (20, "smap"),
    (21, "avx512ifma"),
    (23, "clflushopt"),
    (24, "clwb"),
    (25, "intel-pt"),
    (26, "avx512pf"),
    (27, "avx512er"),
    (28, "avx512cd"),
    (29, "sha-ni"),
    (30, "avx512bw"),
    (31, "avx512vl"),
];

const LEAF_7_ECX: &[(u8, &str)] = &[
    (1, "avx512vbmi"),
    (2, "umip"),
    (3, "pku"),
    (4, "ospke"),
    (5, "waitpkg"),
    (6, "avx512vbmi2"),
    (7, "shstk"),
    (8, "gfni"),
    (9, "vaes"),
    (10, "vpclmulqdq"),
    (11, "avx512vnni"),
    (12, "avx512bitalg"),
    (14, "avx512-vpopcntdq"),
    (16, "la57"),
    (22, "rdpid"),
    (24, "bus-lock-detect"),
    (25, "cldemote"),
    (27, "movdiri"),
    (28, "movdir64b"),
    (31, "pks"),
];

const LEAF_7_EDX: &[(u8, &str)] = &[
    (2, "avx512-4vnniw"),
    (3, "avx512-4fmaps"),
    (4, "fsrm"),
    (8, "avx512-vp2intersect"),
    (10, "md-clear"),
    (14, "serialize"),
    (16, "tsx-ldtrk"),
    (18, "pconfig"),
    (19, "arch-lbr"),
    (20, "ibt"),
    (22, "amx-bf16"),
    (23, "avx512-fp16"),
    (24, "amx-tile"),
    (25, "amx-int8"),
    (26, "spec-ctrl"),
    (27, "stibp"),
    (28, "flush-l1d"),
    (29, "arch-capabilities"),
    (30, "core-capability"),
    (31, "ssbd"),
];

const EXTENDED_1_ECX: &[(u8, &str)] = &[
    (0, "lahf_lm"),
    (1, "cmp_legacy"),
    (2, "svm"),
    (3, "extapic"),
    (4, "cr8legacy"),
    (5, "abm"),
    (6, "sse4a"),
    (7, "misalignsse"),
    (8, "3dnowprefetch"),
    (9, "osvw"),
    (10, "ibs"),
    (11, "xop"),
    (12, "skinit"),
    (13, "wdt"),
    (15, "lwp"),
    (16, "fma4"),
    (17, "tce"),
    (19, "nodeid_msr"),
    (21, "tbm"),
    (22, "topoext"),
    (23, "perfctr_core"),
    (24, "perfctr_nb"),
];

const EXTENDED_1_EDX: &[(u8, &str)] = &[
    (11, "syscall"),
    (19, "mp"),
    (20, "nx"),
    (22, "mmxext"),
    (25, "fxsr_opt"),
    (26, "pdpe1gb"),
    (27, "rdtscp"),
    (29, "lm"),
    (30, "3dnowext"),
    (31, "3dnow"),
];

const EXTENDED_8_EBX: &[(u8, &str)] = &[
    (0, "clzero"),
    (2, "xsaveerptr"),
    (9, "wbnoinvd"),
    (12, "ibpb"),
    (14, "ibrs"),
    (15, "amd-stibp"),
    (17, "stibp-always-on"),
    (24, "amd-ssbd"),
    (25, "virt-ssbd"),
    (26, "amd-no-ssb"),
    (28, "amd-psfd"),
];

/// Every feature with a name.
pub fn all() -> impl Iterator<Item = Feature> {
    GROUPS.iter().flat_map(|&(leaf, index, register, bits)| {
        bits.iter().map(move |&(bit, name)| Feature { name, leaf, index, register, bit })
    })
}

#[must_use]
pub fn find(name: &str) -> Option<Feature> {
    all().find(|feature| feature.name == name)
}
