//! CPU models, caches, address widths, and what KVM is let to offer.

use vmm_protocol::config::{CpuCaches, CpuMatch, CpuModel, FeaturePolicy};

use super::{configured, defined, refused, with};

#[test]
fn a_named_cpu_goes_with_its_features_and_what_no_version_knows_is_refused() {
    let cpu = |text: &str| configured(&defined(&with(text, ""))).cpus;
    let named =
        cpu("<cpu mode='custom' match='minimum' check='none'><model>Skylake-Server</model>\
         <vendor>Intel</vendor><cache mode='disable'/><maxphysaddr mode='emulate' bits='42'/>\
         <feature policy='disable' name='hle'/><feature name='aes'/></cpu>");
    assert_eq!(named.model, CpuModel::Named("Skylake-Server".to_owned()));
    let details = named.details;
    assert_eq!((details.matching, details.unchecked), (CpuMatch::Minimum, true));
    assert_eq!((details.physical_bits, details.caches), (Some(42), CpuCaches::Hidden));
    let features = [("hle", FeaturePolicy::Disable), ("aes", FeaturePolicy::Require)];
    assert_eq!(details.features, features.map(|(name, policy)| (name.to_owned(), policy)));
    assert_eq!(cpu("<cpu mode='maximum'/>").model, CpuModel::HostPassthrough);
    assert_eq!(
        cpu("<cpu><topology sockets='1' cores='1' threads='1'/></cpu>").model,
        CpuModel::HostModel
    );
    let hidden = "<features><kvm><hidden state='on'/></kvm></features>";
    assert!(cpu(hidden).details.hide_kvm);
    for (text, word) in [
        ("<cpu mode='custom'><model>pentium</model></cpu>", "there are kvm64"),
        ("<cpu mode='host-model'><feature name='aez'/></cpu>", "aez"),
        ("<cpu mode='custom'><model vendor_id='short'>EPYC</model></cpu>", "12 characters"),
        ("<cpu mode='custom'><model>EPYC</model><vendor>VIA</vendor></cpu>", "VIA"),
        ("<cpu mode='host-model'><maxphysaddr mode='emulate'/></cpu>", "bits="),
        ("<cpu mode='host-model'><maxphysaddr mode='emulate' bits='60'/></cpu>", "60"),
    ] {
        let message = refused(&with(text, "")).message;
        assert!(message.contains(word), "{text}: {message}");
    }
}

#[test]
fn caches_and_address_bits_go_with_the_models_that_libvirt_allows_them_for() {
    let caches = |cpu: &str| configured(&defined(&with(cpu, ""))).cpus.details.caches;
    let emulated = "<cpu mode='host-model'><cache level='3' mode='emulate'/></cpu>";
    assert_eq!(caches(emulated), CpuCaches::Emulated);
    let hosts = "<cpu mode='host-passthrough'><cache mode='passthrough'/>\
                 <maxphysaddr mode='passthrough' limit='39'/></cpu>";
    let cpus = configured(&defined(&with(hosts, ""))).cpus;
    assert_eq!(
        (cpus.details.caches, cpus.details.physical_bits_limit),
        (CpuCaches::Host, Some(39))
    );
    for (cpu, words) in [
        ("<cpu mode='host-model'><cache mode='passthrough'/></cpu>", "host-passthrough"),
        ("<cpu mode='host-model'><cache level='2' mode='emulate'/></cpu>", "level 2"),
        ("<cpu mode='host-model'><cache level='3' mode='disable'/></cpu>", "level 3"),
        ("<cpu mode='host-model'><maxphysaddr mode='passthrough'/></cpu>", "host-passthrough"),
        (
            "<cpu mode='host-passthrough'><maxphysaddr mode='passthrough' bits='40'/></cpu>",
            "emulate",
        ),
        (
            "<cpu mode='host-model'><maxphysaddr mode='emulate' bits='40' limit='40'/></cpu>",
            "limit",
        ),
    ] {
        let message = refused(&with(cpu, "")).message;
        assert!(message.contains(words), "{cpu}: {message}");
    }
}

#[test]
fn what_kvm_offers_is_chosen_feature_by_feature() {
    let details = |kvm: &str, mode: &str| {
        let text = format!("<features><kvm>{kvm}</kvm></features><cpu mode='{mode}'/>");
        configured(&defined(&with(&text, ""))).cpus.details
    };
    let usual = details("", "host-model");
    assert_eq!((usual.dedicated, usual.poll_control, usual.without_pv_ipi), (false, None, false));
    let chosen = "<hint-dedicated state='on'/><poll-control state='off'/><pv-ipi state='off'/>";
    let chosen = details(chosen, "host-passthrough");
    assert_eq!(
        (chosen.dedicated, chosen.poll_control, chosen.without_pv_ipi),
        (true, Some(false), true)
    );
    let text =
        "<features><kvm><hint-dedicated state='on'/></kvm></features><cpu mode='host-model'/>";
    assert!(refused(&with(text, "")).message.contains("host-passthrough"));
}
