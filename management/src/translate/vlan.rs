//! `<vlan>`: in which VLANs a port of a bridge is.

use broker::{NativeVlan, PortVlans};
use xml::device::interface::{NativeMode, Vlan};

/// One tag alone is where the guest's frames belong, without its knowing. Several are a trunk: the
/// guest tags its frames itself, but for those of the native VLAN.
pub(crate) fn of(vlan: &Vlan) -> PortVlans {
    let id = |id: u32| u16::try_from(id).unwrap_or(u16::MAX);
    if let [only] = vlan.tags.as_slice()
        && !vlan.is_trunk()
    {
        let native = Some(NativeVlan { id: id(only.id), tagged: false });
        return PortVlans { native, tagged: Vec::new() };
    }
    let mut vlans = PortVlans::default();
    for tag in &vlan.tags {
        match tag.native_mode {
            None => vlans.tagged.push(id(tag.id)),
            Some(mode) => {
                let tagged = mode == NativeMode::Tagged;
                vlans.native = Some(NativeVlan { id: id(tag.id), tagged });
            }
        }
    }
    vlans
}

#[cfg(test)]
mod tests {
    use xml::DomainDef;

    use super::*;

    fn vlans(vlan: &str) -> PortVlans {
        let text = format!(
            "<domain type='kvm'><name>d</name><memory>65536</memory><os><type>hvm</type></os><devices>\
             <interface type='bridge'><source bridge='b'/>{vlan}</interface></devices></domain>"
        );
        let def = DomainDef::parse(&text).unwrap().value;
        of(def.devices.interfaces[0].vlan.as_ref().unwrap())
    }

    #[test]
    fn one_tag_is_the_hosts_and_a_trunk_is_the_guests() {
        let native = |id, tagged| Some(NativeVlan { id, tagged });
        let access = PortVlans { native: native(42, false), tagged: Vec::new() };
        assert_eq!(vlans("<vlan><tag id='42'/></vlan>"), access);
        let trunk = PortVlans { native: None, tagged: vec![42] };
        assert_eq!(vlans("<vlan trunk='yes'><tag id='42'/></vlan>"), trunk);
        let both = "<vlan trunk='yes'><tag id='42'/><tag id='123' nativeMode='untagged'/></vlan>";
        assert_eq!(vlans(both), PortVlans { native: native(123, false), tagged: vec![42] });
        let tagged = "<vlan><tag id='7' nativeMode='tagged'/></vlan>";
        assert_eq!(vlans(tagged), PortVlans { native: native(7, true), tagged: Vec::new() });
    }
}
