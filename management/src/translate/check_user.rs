//! What of an interface of type='user' can be had: what passt(1) does.

use std::net::IpAddr;

use xml::YesNo;
use xml::device::interface::{
    Interface, InterfaceBackend, IpAddress, IpFamily, UserBackend, UserForward,
};

use super::check_devices::check_card;
use super::report::Report;

/// A host's end of the guest's network that is a process, not an interface.
pub(super) fn check(interface: &Interface, path: &str, report: &mut Report<'_>) {
    let at = |name: &str| format!("{path}/{name}");
    check_card(interface, path, report);
    if let Some(driver) = &interface.driver {
        let vhost = driver.name == Some(InterfaceBackend::Vhost);
        report.refuse_if(vhost, &at("driver/@name"), "vhost without an interface of the host");
        let queues = driver.queues.is_some_and(|queues| queues > 1);
        report.refuse_if(
            queues,
            &at("driver/@queues"),
            "several queues of an interface of type='user'",
        );
    }
    for (present, name) in [
        (interface.vlan.is_some(), "vlan"),
        (interface.filterref.is_some(), "filterref"),
        (interface.bandwidth.is_some(), "bandwidth"),
        (interface.virtual_port.is_some(), "virtualport"),
        (interface.script.is_some(), "script"),
        (interface.down_script.is_some(), "downscript"),
        (interface.isolated == Some(YesNo::Yes), "port"),
        (interface.tune.is_some(), "tune"),
    ] {
        let message = "what is done to an interface of the host, which type='user' has none of";
        report.refuse_if(present, &at(name), message);
    }
    if let Some(backend) = &interface.backend {
        let other = backend.tap.is_some() || backend.vhost.is_some();
        report.refuse_if(other, &at("backend"), "a device of the host; type='user' opens none");
    }
    let source = interface.source.as_ref().and_then(|source| source.dev.as_deref());
    check_device(source, &at("source/@dev"), report);
    check_addresses(&interface.ips, path, report);
    for (number, forward) in (1..).zip(&interface.port_forwards) {
        check_forward(forward, &format!("{path}/portForward[{number}]"), report);
    }
}

/// Of another type: what only this one has.
pub(super) fn refuse(interface: &Interface, path: &str, report: &mut Report<'_>) {
    if !interface.port_forwards.is_empty() {
        let message =
            "ports of the host lead to a guest of type='user', or by <portForward> in a <network>";
        report.invalid(&format!("{path}/portForward"), message);
    }
    if let Some(backend) = &interface.backend {
        let passt = backend.kind == Some(UserBackend::Passt);
        let log = backend.log_file.is_some();
        let message = "passt is the network of an interface of type='user'";
        if passt || log {
            report.invalid(&format!("{path}/backend"), message);
        }
    }
}

fn check_addresses(addresses: &[IpAddress], path: &str, report: &mut Report<'_>) {
    let mut seen = [false; 2];
    for (number, ip) in (1..).zip(addresses) {
        let at = |name: &str| format!("{path}/ip[{number}]/{name}");
        report.refuse_if(ip.peer.is_some(), &at("@peer"), "the address of a peer");
        let Ok(address) = ip.address.parse::<IpAddr>() else {
            report.invalid(&at("@address"), format!("{:?} is no IP address", ip.address));
            continue;
        };
        let v6 = address.is_ipv6();
        let family = if v6 { IpFamily::Ipv6 } else { IpFamily::Ipv4 };
        if ip.family.unwrap_or(IpFamily::Ipv4) != family {
            let message = format!("{address} is an address of family='{family}'");
            report.invalid(&at("@family"), message);
        }
        if std::mem::replace(&mut seen[usize::from(v6)], true) {
            report.refuse(&at("@address"), "a second address of a family: passt gives one of each");
        }
        let longest = if v6 { 128 } else { 32 };
        if let Some(prefix) = ip.prefix.filter(|prefix| *prefix > longest || *prefix == 0) {
            let message = format!("a prefix is from 1 to {longest} bits long, not {prefix}");
            report.invalid(&at("@prefix"), message);
        }
        // As libvirt: by SLAAC and DHCPv6 it is given as one address.
        let prefix = v6 && ip.prefix.is_some();
        report.warn_if(prefix, &at("@prefix"), "the prefix of an IPv6 address is left out");
    }
}

/// In what passt is told, a name ends at these.
fn check_device(name: Option<&str>, path: &str, report: &mut Report<'_>) {
    let is_name = |name: &str| {
        let foreign = |c: char| "/,%:".contains(c) || c.is_whitespace() || c.is_control();
        (1..16).contains(&name.len()) && !name.contains(foreign)
    };
    if let Some(name) = name.filter(|name| !is_name(name)) {
        report.invalid(path, format!("{name:?} cannot name a network device"));
    }
}

fn check_forward(forward: &UserForward, path: &str, report: &mut Report<'_>) {
    let address = forward.address.as_deref();
    if let Some(address) = address.filter(|address| address.parse::<IpAddr>().is_err()) {
        report.invalid(&format!("{path}/@address"), format!("{address:?} is no IP address"));
    }
    check_device(forward.dev.as_deref(), &format!("{path}/@dev"), report);
    let ranges = &forward.ranges;
    if !ranges.is_empty() && ranges.iter().all(xml::device::interface::UserRange::is_excluded) {
        let message = "ports that are left out, and none of which; add a <range>";
        report.invalid(&format!("{path}/range[1]"), message);
    }
}
