//! Programs that count what guests do: the Prometheus exporter (written in Go), collectd, virt-top (written in OCaml).

use std::net::{Ipv4Addr, TcpListener};

use manor_tests::Api;
use manor_tests::apt::Release;

use super::super::rig::wait_for;
use super::super::test_driver::Driver;
use super::{Running, of_release, on, programs, said};

#[test]
fn the_exporter_tells_prometheus_what_guests_do() {
    let Some(programs) = programs() else { return };
    let driver = Driver::new();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let log = driver.home().join("exporter.log");
    let _exporter =
        Running::start(on(&driver, &programs, &["prometheus-libvirt-exporter", &listen]), &log);
    let mut told = String::new();
    wait_for("the exporter", || {
        told = Api::on(port).get("/metrics").map(|reply| reply.body).unwrap_or_default();
        told.contains("libvirt_up")
    });
    for (metric, value) in [
        ("libvirt_up", "1"),
        ("libvirt_domains_number", "1"),
        ("libvirt_domain_state_code", "1"),
        ("libvirt_domain_info_virtual_cpus", "2"),
        ("libvirt_domain_info_maximum_memory_bytes", "8.589934592e+09"),
        ("libvirt_domain_block_stats_read_bytes_total", "4.096e+06"),
        ("libvirt_domain_block_stats_write_requests_total", "500"),
        ("libvirt_domain_interface_stats_receive_bytes_total", "64000"),
        ("libvirt_domain_interface_stats_transmit_packets_total", "500"),
    ] {
        let is_it = |line: &&str| line.split(['{', ' ']).next() == Some(metric);
        let line = told.lines().find(is_it).unwrap_or_default();
        assert!(line.ends_with(&format!(" {value}")), "{metric}: {line:?}\n{told}");
    }
}

#[test]
fn collectd_writes_down_what_guests_do() {
    let Some(programs) = programs() else { return };
    let driver = Driver::new();
    driver.write("collectd.conf", include_str!("collectd.conf"));
    let log = driver.home().join("collectd.log");
    let words = ["collectd", "-f", "-C", "collectd.conf"];
    let _collectd = Running::start(on(&driver, &programs, &words), &log);
    let figures = driver.home().join("csv/test/virt");
    for name in [
        "disk_octets-vda",
        "domain_state",
        "if_octets-vnet0",
        "memory-actual_balloon",
        "memory-total",
        "virt_cpu_total",
        "virt_vcpu-1",
    ] {
        wait_for(name, || {
            let files = std::fs::read_dir(&figures).into_iter().flatten().flatten();
            let names = files.filter_map(|file| file.file_name().into_string().ok());
            names.into_iter().any(|file| file.starts_with(name))
        });
    }
}

/// Debian 12 has no virt-top; that of 13 brings the newer libvirt.
#[test]
fn virt_top_and_a_newer_virsh_list_what_runs() {
    let packages = ["libvirt-clients", "virt-top"];
    let Some(newer) = of_release(Release::Trixie, "client-programs-trixie", &packages) else {
        return;
    };
    let driver = Driver::new();
    let words = ["env", "TERM=dumb", "virt-top", "--script", "--stream", "-n", "2", "-d", "1"];
    let told = said(on(&driver, &newer, &words));
    let guests: Vec<_> = told.lines().filter(|line| line.ends_with(" test")).collect();
    assert_eq!(guests.len(), 2, "{told}");
    // Of 16 GiB the guest has 2.
    assert!(guests[1].contains(" R ") && guests[1].contains(" 12.0 "), "{told}");
    let version = said(on(&driver, &newer, &["virsh", "version"]));
    assert!(version.contains("Using library: libvirt 11."), "{version}");
    let listed = said(on(&driver, &newer, &["virsh", "list", "--all", "--name"]));
    assert_eq!(listed.trim(), "test");
}
