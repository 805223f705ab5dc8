//! Hyper-V enlightenments.

use vmm_protocol::config::Hyperv;

use super::{Ids, configured, define, defined, host, refused, with};

const CLOCK: &str = "<clock offset='utc'><timer name='hypervclock' present='yes'/></clock>";

fn guest(hyperv: &str) -> String {
    with(&format!("<features><hyperv>{hyperv}</hyperv></features>"), "")
}

fn found(text: &str) -> Option<Hyperv> {
    configured(&defined(text)).cpus.details.hyperv
}

/// As libvirt's guides have it for Windows.
#[test]
fn what_is_written_for_windows_becomes_enlightenments() {
    let text = with(
        &format!(
            "<features><hyperv mode='custom'><relaxed state='on'/><vapic state='on'/>\
             <spinlocks state='on' retries='8191'/><vpindex state='on'/><runtime state='off'/>\
             <synic state='on'/><stimer state='on'><direct state='on'/></stimer>\
             <vendor_id state='on' value='KVM Hv'/><tlbflush state='on'/><ipi state='on'/>\
             </hyperv></features>{CLOCK}"
        ),
        "",
    );
    let checked = define(&text, &mut Ids(0), &host()).unwrap();
    assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
    let names = [
        "relaxed",
        "vapic",
        "vpindex",
        "synic",
        "stimer",
        "stimer-direct",
        "tlbflush",
        "ipi",
        "hypervclock",
    ];
    let expected = Hyperv {
        passthrough: false,
        enlightenments: names.map(str::to_owned).to_vec(),
        spinlock_retries: Some(8191),
        vendor_id: Some("KVM Hv".to_owned()),
    };
    assert_eq!(configured(&checked.def).cpus.details.hyperv, Some(expected));
}

#[test]
fn a_clock_or_a_panic_device_alone_make_a_hyper_v() {
    assert_eq!(found(&with("", "")), None);
    assert_eq!(found(&guest("<relaxed state='off'/>")), None);
    assert_eq!(found(&with(CLOCK, "")).unwrap().enlightenments, ["hypervclock"]);
    let panics = with("", "<panic model='hyperv'/>");
    assert_eq!(found(&panics).unwrap().enlightenments, ["crash"]);
    assert!(!configured(&defined(&panics)).pvpanic);
    let both = with("", "<panic model='hyperv'/><panic model='isa'/>");
    assert!(configured(&defined(&both)).pvpanic);
    let all = with("<features><hyperv mode='passthrough'/></features>", "");
    assert!(found(&all).unwrap().passthrough);
}

#[test]
fn what_depends_on_something_else_says_so() {
    for (hyperv, message) in [
        ("<synic state='on'/>", "synic needs <vpindex state='on'/>"),
        ("<ipi state='on'/>", "ipi needs <vpindex"),
        ("<tlbflush state='on'/>", "tlbflush needs <vpindex"),
        ("<evmcs state='on'/>", "evmcs needs <vapic"),
        (
            "<vpindex state='on'/><synic state='on'/><stimer state='on'/>",
            "stimer needs <timer name='hypervclock'",
        ),
        ("<spinlocks state='on'/>", "retries"),
        ("<spinlocks state='on' retries='4094'/>", "at least 4095"),
        ("<vendor_id state='on'/>", "value="),
        ("<vendor_id state='on' value='thirteen chars'/>", "12 characters"),
    ] {
        let error = refused(&guest(hyperv));
        assert!(error.message.contains(message), "{message}: {}", error.message);
    }
}
