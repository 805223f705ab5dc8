//! Hyper-V enlightenments: `<features><hyperv>`, `<timer name='hypervclock'>` and
//! `<panic model='hyperv'>`. What this host's KVM lacks of them is told at the start.

use arch::cpuid::Enlightenment;
use vmm_protocol::config::Hyperv;
use xml::device::panic::PanicModel;
use xml::domain::clock::TimerName;
use xml::domain::features::{self, HypervMode, State};
use xml::{DomainDef, OnOff, YesNo};

use super::report::Report;

/// libvirt's bounds.
const LEAST_RETRIES: u32 = 4095;
const LONGEST_VENDOR: usize = 12;

pub(super) fn check(def: &DomainDef, report: &mut Report<'_>) {
    let Some(hyperv) = hyperv_of(def) else { return };
    let at = |name: &str| format!("/domain/features/hyperv/{name}");
    if let Some(spinlocks) = hyperv.spinlocks.as_ref().filter(|locks| is_on(locks.state)) {
        match spinlocks.retries {
            None => report.missing(&at("spinlocks"), "how many retries: retries='8191'"),
            Some(retries) if retries < LEAST_RETRIES => {
                let message = format!("there are at least {LEAST_RETRIES} retries");
                report.invalid(&at("spinlocks/@retries"), message);
            }
            Some(_) => {}
        }
    }
    if let Some(vendor) = hyperv.vendor_id.as_ref().filter(|vendor| is_on(vendor.state)) {
        match vendor.value.as_deref() {
            None => report.missing(&at("vendor_id"), "what the vendor is: value='…'"),
            Some(value) if value.len() > LONGEST_VENDOR || value.contains(',') => {
                let message =
                    format!("a vendor has at most 12 characters, none a comma: {value:?}");
                report.invalid(&at("vendor_id/@value"), message);
            }
            Some(_) => {}
        }
    }
    if hyperv.mode == Some(HypervMode::Passthrough) {
        return;
    }
    let wanted = enlightenments(def);
    for one in wanted.iter().copied() {
        if let Some(lacking) = one.needs().iter().find(|needed| !wanted.contains(needed)) {
            let message = format!("{} needs {}", one.name(), element(*lacking));
            let name = one.name().split('-').next().unwrap_or_default();
            report.invalid(&at(name), message);
        }
    }
}

fn element(one: Enlightenment) -> String {
    match one {
        Enlightenment::Clock => "<timer name='hypervclock' present='yes'/>".to_owned(),
        other => format!("<{} state='on'/>", other.name()),
    }
}

/// None where the guest hears nothing of Hyper-V.
pub(super) fn hyperv(def: &DomainDef) -> Option<Hyperv> {
    let enlightenments = enlightenments(def);
    let given = hyperv_of(def);
    let passthrough = given.is_some_and(|given| given.mode == Some(HypervMode::Passthrough));
    let vendor = given.and_then(|given| given.vendor_id.as_ref());
    let vendor = vendor.filter(|vendor| is_on(vendor.state));
    let spinlocks = given.and_then(|given| given.spinlocks.as_ref());
    let spinlocks = spinlocks.filter(|spinlocks| is_on(spinlocks.state));
    let nothing = enlightenments.is_empty() && vendor.is_none() && spinlocks.is_none();
    (passthrough || !nothing).then(|| Hyperv {
        passthrough,
        enlightenments: enlightenments.into_iter().map(|one| one.name().to_owned()).collect(),
        spinlock_retries: spinlocks.and_then(|spinlocks| spinlocks.retries),
        vendor_id: vendor.and_then(|vendor| vendor.value.clone()),
    })
}

fn hyperv_of(def: &DomainDef) -> Option<&features::Hyperv> {
    def.features.as_ref().and_then(|features| features.hyperv.as_ref())
}

fn enlightenments(def: &DomainDef) -> Vec<Enlightenment> {
    use Enlightenment as E;
    let on = |state: &Option<State>| state.as_ref().is_some_and(State::is_on);
    let mut found = Vec::new();
    if let Some(hyperv) = hyperv_of(def) {
        let stimer = hyperv.stimer.as_ref().filter(|stimer| is_on(stimer.state));
        let tlb_flush = hyperv.tlb_flush.as_ref().filter(|flush| is_on(flush.state));
        let written = [
            (on(&hyperv.relaxed), E::Relaxed),
            (on(&hyperv.vapic), E::Vapic),
            (on(&hyperv.vpindex), E::VpIndex),
            (on(&hyperv.runtime), E::Runtime),
            (on(&hyperv.synic), E::Synic),
            (stimer.is_some(), E::Stimer),
            (stimer.is_some_and(|stimer| on(&stimer.direct)), E::StimerDirect),
            (on(&hyperv.reset), E::Reset),
            (on(&hyperv.frequencies), E::Frequencies),
            (on(&hyperv.reenlightenment), E::Reenlightenment),
            (tlb_flush.is_some(), E::TlbFlush),
            (tlb_flush.is_some_and(|flush| on(&flush.direct)), E::TlbFlushDirect),
            (tlb_flush.is_some_and(|flush| on(&flush.extended)), E::TlbFlushExtended),
            (on(&hyperv.ipi), E::Ipi),
            (on(&hyperv.evmcs), E::Evmcs),
            (on(&hyperv.emsr_bitmap), E::EmsrBitmap),
            (on(&hyperv.avic), E::Avic),
            (on(&hyperv.xmm_input), E::XmmInput),
        ];
        found.extend(written.into_iter().filter(|(on, _)| *on).map(|(_, one)| one));
    }
    let mut timers = def.clock.iter().flat_map(|clock| &clock.timers);
    let is_clock = |timer: &xml::domain::clock::Timer| {
        timer.name == TimerName::HypervClock && timer.present != Some(YesNo::No)
    };
    found.extend(timers.any(is_clock).then_some(E::Clock));
    let panics = &def.devices.panics;
    let crash = panics.iter().any(|panic| panic.model == Some(PanicModel::Hyperv));
    found.extend(crash.then_some(E::Crash));
    found
}

fn is_on(state: Option<OnOff>) -> bool {
    state != Some(OnOff::Off)
}
