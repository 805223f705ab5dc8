//! `<bandwidth>` of interfaces as rates of their taps, and of networks as such of their bridges.

use broker::{Traffic, TrafficRate};
use xml::device::interface::{Bandwidth, Interface, Rate};
use xml::network::PortGroup;
use xml::{DomainDef, NetworkDef};

/// Its own, else that of its port group.
pub(crate) fn traffic(interface: &Interface, group: Option<&PortGroup>) -> Traffic {
    let of_group = group.and_then(|group| group.bandwidth.as_ref());
    of(interface.bandwidth.as_ref().or(of_group))
}

/// Bytes each second that the interface gets of its network's, whatever others are sent.
pub(crate) fn floor(interface: &Interface) -> Option<u64> {
    let rate = interface.bandwidth.as_ref()?.inbound.as_ref()?;
    rate.floor.filter(|floor| *floor > 0).map(|floor| u64::from(floor) * 1000)
}

/// Of the bridge of a network: what goes out by it is what comes to the guests.
pub(crate) fn of_network(def: &NetworkDef) -> Traffic {
    of(def.bandwidth.as_ref())
}

fn of(bandwidth: Option<&Bandwidth>) -> Traffic {
    Traffic {
        inbound: bandwidth.and_then(|bandwidth| bandwidth.inbound.as_ref()).and_then(rate),
        outbound: bandwidth.and_then(|bandwidth| bandwidth.outbound.as_ref()).and_then(rate),
    }
}

/// libvirt counts rates in units of 1000 bytes, and bursts in such of 1024.
fn rate(rate: &Rate) -> Option<TrafficRate> {
    let said = |value: Option<u32>| value.filter(|value| *value > 0).map(u64::from);
    Some(TrafficRate {
        average: said(rate.average)? * 1000,
        peak: said(rate.peak).map(|peak| peak * 1000),
        burst: said(rate.burst).map(|burst| burst * 1024),
    })
}

/// What of it cannot be, and where.
pub(super) fn mistakes(def: &DomainDef) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (number, interface) in (1..).zip(&def.devices.interfaces) {
        let Some(bandwidth) = &interface.bandwidth else { continue };
        for (name, rate) in [("inbound", &bandwidth.inbound), ("outbound", &bandwidth.outbound)] {
            let Some(Rate { average, peak: Some(peak), .. }) = rate else { continue };
            if peak != &0 && *peak < average.unwrap_or(0) {
                let path = format!("/domain/devices/interface[{number}]/bandwidth/{name}/@peak");
                found.push((path, "a peak is at least the average".to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_in_libvirts_units_and_0_is_none() {
        let said = Rate { average: Some(1000), peak: Some(0), floor: None, burst: Some(64) };
        let expected = TrafficRate { average: 1_000_000, peak: None, burst: Some(65_536) };
        assert_eq!(rate(&said), Some(expected));
        assert_eq!(rate(&Rate { average: Some(0), ..said }), None);
    }
}
