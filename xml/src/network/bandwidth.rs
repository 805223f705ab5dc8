//! `<bandwidth>` of a network: what all its guests share, to them (inbound) and from them (outbound);
//! and of a port group: what each of its interfaces may.

use super::NetworkDef;
use crate::cursor::Cursor;
use crate::device::interface::Bandwidth;
use crate::diagnostic::Kind;

impl NetworkDef {
    pub(super) fn check_bandwidth(&self, at: Cursor<'_>) {
        check(self.bandwidth.as_ref(), at);
        for (group, at) in self.port_groups.iter().zip(at.children("portgroup")) {
            check(group.bandwidth.as_ref(), at);
        }
    }
}

fn check(bandwidth: Option<&Bandwidth>, at: Cursor<'_>) {
    let (Some(bandwidth), Some(at)) = (bandwidth, at.child("bandwidth")) else { return };
    for (name, rate) in [("inbound", &bandwidth.inbound), ("outbound", &bandwidth.outbound)] {
        let (Some(rate), Some(at)) = (rate, at.child(name)) else { continue };
        if rate.floor.is_some() {
            let message = "a floor is for one interface, within the average of its network";
            at.attribute_error("floor", Kind::Invalid, message.to_owned());
        } else if rate.average.is_none_or(|average| average == 0) {
            let message = "a network's rate is above 0; leave the element out for no limit";
            at.attribute_error("average", Kind::Invalid, message.to_owned());
        }
        let peak = rate.peak.filter(|peak| *peak != 0);
        if peak.is_some_and(|peak| rate.average.is_some_and(|average| peak < average)) {
            let message = "a peak is at least the average".to_owned();
            at.attribute_error("peak", Kind::Invalid, message);
        }
    }
}
