//! Clients that everybody has: ISC's dhclient, BIND's dig and busybox's udhcpc.

use std::net::Ipv4Addr;

use manor_tests::tools;
use manor_tests::tree::Program;
use serde_json::json;

use crate::lab::Lab;
use crate::settings;

fn run(lab: &Lab, program: &Program, arguments: &[&str]) -> String {
    let words = program.words().iter().map(String::as_str);
    lab.run_in_client(&words.chain(arguments.iter().copied()).collect::<Vec<_>>())
}

fn colons(mac: [u8; 6]) -> String {
    network::Mac(mac).to_string()
}

#[test]
fn dhclient_gets_the_address_kept_for_its_mac_address_and_gives_it_back() {
    let Some(mut lab) = Lab::new() else { return };
    let dhclient = tools::dhclient().unwrap();
    let mut settings = settings(&lab);
    settings["dhcp"]["hosts"] =
        json!([{ "mac": colons(lab.client_mac()), "name": "kept", "address": "192.168.77.50" }]);
    lab.start(settings);
    let script = lab.script(
        "#!/bin/sh\n[ \"$reason\" = BOUND ] && echo \"$new_ip_address $new_subnet_mask $new_routers \
         $new_domain_name $new_interface_mtu $new_host_name\"\nexit 0\n",
    );
    let (leases, pid, config) = (lab.path("leases4"), lab.path("pid4"), lab.path("dhclient.conf"));
    let asked =
        "request subnet-mask, routers, domain-name, domain-name-servers, interface-mtu, host-name;";
    std::fs::write(&config, format!("{asked}\n")).unwrap();
    let rest = ["-4", "-v", "-cf", &config, "-lf", &leases, "-pf", &pid, "-sf", &script, "c0"];
    let output = run(&lab, &dhclient, &[&["-1"], &rest[..]].concat());
    let told = output.lines().find(|line| line.starts_with("192.168.77.")).expect(&output);
    assert_eq!(told, "192.168.77.50 255.255.255.0 192.168.77.1 lab.test 1400 kept");
    assert_eq!(lab.status()["leases"], 1);
    // It is told from its address.
    lab.give_client(Ipv4Addr::new(192, 168, 77, 50));
    let output = run(&lab, &dhclient, &[&["-r"], &rest[..]].concat());
    assert!(output.contains("DHCPRELEASE of 192.168.77.50"), "{output}");
    lab.wait_until("the lease is given back", |lab| lab.status()["leases"] == 0);
}

#[test]
fn who_comes_when_all_addresses_are_given_gets_none_and_is_counted() {
    let Some(mut lab) = Lab::new() else { return };
    let busybox = tools::busybox().unwrap();
    let mut settings = settings(&lab);
    let one = json!([{ "start": "192.168.77.100", "end": "192.168.77.100" }]);
    settings["dhcp"]["ranges"] = one;
    lab.start(settings);
    let script = lab.script("#!/bin/sh\n[ \"$1\" = bound ] && echo \"got $ip\"\nexit 0\n");
    let udhcpc = |lab: &Lab, id: &str| {
        let id = format!("0x3d:{id}");
        let rest = ["udhcpc", "-i", "c0", "-n", "-q", "-f", "-t", "2", "-T", "1", "-C", "-x", &id];
        run(lab, &busybox, &[&rest[..], &["-s", &script]].concat())
    };
    let first = udhcpc(&lab, "0101");
    assert!(first.contains("got 192.168.77.100"), "{first}");
    // Another machine with the address of this one's cable changed.
    lab.ip(&["-n", &lab.client, "link", "set", "c0", "address", "52:54:00:00:00:77"]);
    let second = udhcpc(&lab, "0202");
    assert!(!second.contains("got "), "{second}");
    assert_ne!(lab.status()["dhcp"]["exhausted"], 0);
}

#[test]
fn dig_finds_records_of_each_kind_here_and_what_others_know() {
    let Some(mut lab) = Lab::new() else { return };
    let dig = tools::dig().unwrap();
    let mut settings = settings(&lab);
    settings["dns"]["hosts"] = json!([
        { "address": "192.168.77.9", "names": ["db"] }, { "address": "fd00:77::9", "names": ["db"] },
    ]);
    settings["dns"]["srv"] = json!([{ "name": "_sip._tcp.lab.test", "target": "db.lab.test", "port": 5060, "weight": 7 }]);
    settings["dns"]["txt"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "note.lab.test", "value": "two words" }));
    lab.start(settings);
    lab.give_client(Ipv4Addr::new(192, 168, 77, 77));
    let ask = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        run(&lab, &dig, &[&["@192.168.77.1", "+tries=3", "+time=2"], &words[..]].concat())
    };
    let short = |words: &str| ask(&format!("+short {words}")).trim().to_owned();
    assert_eq!(short("db.lab.test A"), "192.168.77.9");
    assert_eq!(short("db.lab.test AAAA"), "fd00:77::9");
    assert_eq!(short("-x 192.168.77.9"), "db.lab.test.");
    assert_eq!(short("-x fd00:77::9"), "db.lab.test.");
    assert_eq!(short("_sip._tcp.lab.test SRV"), "0 7 5060 db.lab.test.");
    assert_eq!(short("note.lab.test TXT"), "\"two words\"");
    assert_eq!(short("+tcp db.lab.test A"), "192.168.77.9");
    assert_eq!(short("+noedns www.example.org A"), "192.0.2.53", "what the upstream says");
    let whole = ask("long.lab.test TXT");
    assert!(whole.contains("Truncated, retrying in TCP mode") && whole.contains("zzzz"), "{whole}");
    let missing = ask("nobody.lab.test A");
    assert!(missing.contains("status: NXDOMAIN"), "{missing}");
    let none = ask("db.lab.test MX");
    assert!(none.contains("status: NOERROR") && none.contains("ANSWER: 0"), "{none}");
}
