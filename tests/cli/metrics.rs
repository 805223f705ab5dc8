//! `/metrics` of a guest that runs, as Prometheus itself reads it.

use std::io::copy;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use manor_tests::prometheus::{Prometheus, check_metrics};

use super::faults::with_disk;
use super::guests::{defined, ok};
use super::rig::Rig;

/// A port on 127.0.0.1 behind which the API's socket is: Prometheus knows no others.
fn proxy(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, UnixStream::connect(&socket)) else { continue };
            let (mut to, mut from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || _ = copy(&mut from, &mut to));
            let (mut client, mut server) = (client, server);
            thread::spawn(move || {
                let _ = copy(&mut server, &mut client);
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

fn scrape(port: u16, query: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET /metrics{query} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    body.to_owned()
}

fn running() -> Option<Rig> {
    let rig = defined()?;
    rig.write("disk", vec![0; 1 << 20]);
    with_disk(&rig, "", "disk");
    ok(&rig, &["define", "echo.xml"]);
    ok(&rig, &["start", "echo"]);
    // Labels are foreign text.
    let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    let off = xml.replace("<name>echo</name>", "<name>off \"and\\so</name>");
    let (before, rest) = off.split_once("<uuid>").unwrap();
    let (_, after) = rest.split_once("</uuid>").unwrap();
    rig.write("off.xml", format!("{before}{after}"));
    ok(&rig, &["define", "off.xml"]);
    Some(rig)
}

#[test]
fn promtool_has_nothing_to_say_of_the_metrics_and_prometheus_reads_them() {
    let Some(rig) = running() else { return };
    let port = proxy(rig.path("run/api-ro.sock"));
    for query in ["", "?compat=libvirt"] {
        let text = scrape(port, query);
        match check_metrics(&text) {
            Ok(said) => assert_eq!(said, "", "{query}: {text}"),
            Err(error) => return println!("SKIP: no promtool: {error:#}"),
        }
    }
    let jobs = [("own", "{}"), ("libvirt", "{ compat: ['libvirt'] }")];
    let mut prometheus = Prometheus::start(rig.directory.path(), port, &jobs).unwrap();
    let up = prometheus.query("up == 1", |found| found.len() == 2).unwrap();
    assert_eq!(up.len(), 2);
    let of = |prometheus: &mut Prometheus, query: &str| {
        prometheus.query(query, |found| found.len() == 1).unwrap().remove(0)["value"][1].clone()
    };
    assert_eq!(of(&mut prometheus, "manor_domain_vcpus{domain='echo'}"), "1");
    assert_eq!(of(&mut prometheus, "manor_domain_block_fault{device='vda'}"), "0");
    assert_eq!(of(&mut prometheus, "libvirt_domain_info_virtual_cpus{domain='echo'}"), "1");
    let off = "manor_domain_state{domain='off \"and\\\\so'}";
    assert_eq!(of(&mut prometheus, off), "5");
}
