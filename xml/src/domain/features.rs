//! `<features>`: what the platform offers beside its devices.

use crate::domain::memory::Kib;
use crate::element::element;
use crate::value::{OnOff, names};

element! {
    #[derive(Default)]
    pub struct Features {
        child acpi: bool,
        child apic: Option<Apic>,
        child pae: bool,
        child viridian: bool,
        child privnet: bool,
        child hap: Option<State>,
        child hyperv: Option<Hyperv>,
        child kvm: Option<Kvm>,
        child pvspinlock: Option<State>,
        child pmu: Option<State>,
        child("vmport") vm_port: Option<State>,
        child smm: Option<Smm>,
        leaf("ioapic" "driver") ioapic: Option<IoApicDriver>,
        child("vmcoreinfo") vm_core_info: Option<State>,
        leaf("msrs" "unknown") msrs: Option<UnknownMsr>,
    }
    refuse [
        "xen", "capabilities", "gic", "hpt", "htm", "nested-hv", "ccf-assist", "cfpc", "sbbc", "ibs", "tcg",
        "async-teardown", "ras", "ps2", "aia",
    ];
}

names! {
    pub enum IoApicDriver { Kvm = "kvm", Qemu = "qemu" }
    pub enum UnknownMsr { Ignore = "ignore", Fault = "fault" }
    pub enum HypervMode { Custom = "custom", Passthrough = "passthrough" }
}

element! {
    /// `<feature state='on'/>`; on when nothing is said.
    #[derive(Default)]
    pub struct State {
        attr state: Option<OnOff>,
    }
}

impl State {
    pub fn is_on(&self) -> bool {
        self.state != Some(OnOff::Off)
    }
}

element! {
    #[derive(Default)]
    pub struct Apic {
        attr eoi: Option<OnOff>,
    }
}

element! {
    #[derive(Default)]
    pub struct Hyperv {
        attr mode: Option<HypervMode>,
        child relaxed: Option<State>,
        child vapic: Option<State>,
        child spinlocks: Option<Spinlocks>,
        child vpindex: Option<State>,
        child runtime: Option<State>,
        child synic: Option<State>,
        child stimer: Option<Stimer>,
        child reset: Option<State>,
        child("vendor_id") vendor_id: Option<VendorId>,
        child frequencies: Option<State>,
        child reenlightenment: Option<State>,
        child("tlbflush") tlb_flush: Option<TlbFlush>,
        child ipi: Option<State>,
        child evmcs: Option<State>,
        child avic: Option<State>,
        child("emsr_bitmap") emsr_bitmap: Option<State>,
        child("xmm_input") xmm_input: Option<State>,
    }
}

element! {
    #[derive(Default)]
    pub struct Spinlocks {
        attr state: Option<OnOff>,
        attr retries: Option<u32>,
    }
}

element! {
    #[derive(Default)]
    pub struct Stimer {
        attr state: Option<OnOff>,
        child direct: Option<State>,
    }
}

element! {
    #[derive(Default)]
    pub struct TlbFlush {
        attr state: Option<OnOff>,
        child direct: Option<State>,
        child extended: Option<State>,
    }
}

element! {
    #[derive(Default)]
    pub struct VendorId {
        attr state: Option<OnOff>,
        attr value: Option<String>,
    }
}

element! {
    #[derive(Default)]
    pub struct Kvm {
        child hidden: Option<State>,
        child("hint-dedicated") hint_dedicated: Option<State>,
        child("poll-control") poll_control: Option<State>,
        child("pv-ipi") pv_ipi: Option<State>,
        child("dirty-ring") dirty_ring: Option<DirtyRing>,
    }
}

element! {
    #[derive(Default)]
    pub struct DirtyRing {
        attr state: Option<OnOff>,
        attr size: Option<u32>,
    }
}

element! {
    #[derive(Default)]
    pub struct Smm {
        attr state: Option<OnOff>,
        child tseg: Option<Kib>,
    }
}
