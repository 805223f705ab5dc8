//! What is asked of upstreams, here sockets of the test.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;
use simple_dns::rdata::{A as AddressRecord, RData};
use simple_dns::{CLASS, Packet, RCODE, ResourceRecord};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use super::super::gate::Gate;
use super::super::query::kind::{A, TXT};
use super::super::{serve, tcp};
use super::*;

/// The server on sockets of its own, with the given upstreams.
struct Running {
    udp: SocketAddr,
    tcp: SocketAddr,
    shared: Shared,
    _task: JoinHandle<()>,
}

fn run(dns: serde_json::Value) -> Running {
    let shared = network(json!({ "dns": dns }));
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    let services = serve(vec![udp], vec![tcp], shared.clone());
    let task = tokio::spawn(async move { services.await.unwrap() });
    Running { udp: addresses.0, tcp: addresses.1, shared, _task: task }
}

impl Running {
    async fn ask(&self, query: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.udp).await.unwrap();
        socket.send(query).await.unwrap();
        let mut reply = vec![0; 4096];
        let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut reply));
        let length = received.await.expect("an answer in time").unwrap();
        reply.truncate(length);
        reply
    }

    async fn ask_tcp(&self, query: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.tcp).await.unwrap();
        tcp::write_message(&mut stream, query).await.unwrap();
        tcp::read_message(&mut stream, 65_535).await.unwrap().expect("an answer")
    }
}

/// An answer of 192.0.2.`last`, or only a code.
fn answer(query: &[u8], rcode: RCODE, last: u8) -> Vec<u8> {
    let mut reply = Packet::parse(query).unwrap().into_reply();
    reply.set_flags(PacketFlag::RECURSION_DESIRED);
    *reply.rcode_mut() = rcode;
    if rcode == RCODE::NoError {
        let address = Ipv4Addr::new(192, 0, 2, last).to_bits();
        let data = RData::A(AddressRecord { address });
        let name = reply.questions[0].qname.clone();
        reply.answers.push(ResourceRecord::new(name, CLASS::IN, 5, data));
    }
    reply.build_bytes_vec().unwrap()
}

/// An upstream that answers each query with what `replies` makes of it.
async fn upstream(replies: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            for reply in replies(&buffer[..length]) {
                socket.send_to(&reply, from).await.unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn a_question_goes_out_under_another_number_and_its_answer_comes_back() {
    let up = upstream(|query| {
        let mut forged = answer(query, RCODE::NoError, 66);
        forged[0] ^= 1;
        let mut other = answer(&question("other.example.org", A), RCODE::NoError, 67);
        other[..2].copy_from_slice(&query[..2]);
        vec![forged, other, vec![], query.to_vec(), answer(query, RCODE::NoError, 1)]
    });
    let lab = run(json!({ "upstreams": [up.await] }));
    let reply = lab.ask(&question("some.example.org", A)).await;
    assert_eq!(read(&reply), (RCODE::NoError, vec!["192.0.2.1".to_owned()]));
    assert_eq!(lab.shared.lock().dns.forwarded, 1);
}

#[tokio::test]
async fn the_next_upstream_is_asked_when_one_fails() {
    let refuses = upstream(|query| vec![answer(query, RCODE::Refused, 0)]).await;
    let silent = upstream(|_| vec![]).await;
    let good = upstream(|query| vec![answer(query, RCODE::NoError, 2)]).await;
    let lab = run(json!({ "upstreams": [refuses, silent, good] }));
    for _ in 0..2 {
        let reply = lab.ask(&question("some.example.org", A)).await;
        assert_eq!(read(&reply), (RCODE::NoError, vec!["192.0.2.2".to_owned()]));
    }
    let only_refused = run(json!({ "upstreams": [refuses] }));
    let reply = only_refused.ask(&question("some.example.org", A)).await;
    assert_eq!(read(&reply).0, RCODE::Refused, "nobody knew better");
}

#[tokio::test]
async fn without_an_upstream_the_server_fails_in_so_many_words() {
    let lab = run(json!({}));
    let reply = lab.ask(&question("some.example.org", A)).await;
    assert_eq!(read(&reply).0, RCODE::ServerFailure);
    assert_eq!(lab.shared.lock().dns.failed, 1);
}

#[tokio::test]
async fn domains_have_upstreams_of_their_own() {
    let general = upstream(|query| vec![answer(query, RCODE::NoError, 1)]).await;
    let special = upstream(|query| vec![answer(query, RCODE::NoError, 2)]).await;
    let lab = run(json!({
        "upstreams": [general],
        "forwarders": [{ "domain": "corp.example", "address": special },
                       { "domain": "public.corp.example" }],
    }));
    for (name, last) in [("a.corp.example", 2), ("b.public.corp.example", 1), ("c.example", 1)] {
        let reply = lab.ask(&question(name, A)).await;
        assert_eq!(read(&reply).1, [format!("192.0.2.{last}")], "{name}");
    }
}

#[tokio::test]
async fn tcp_is_served_and_asked_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let up = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let query = tcp::read_message(&mut stream, 65_535).await.unwrap().unwrap();
            tcp::write_message(&mut stream, &answer(&query, RCODE::NoError, 3)).await.unwrap();
        }
    });
    let lab = run(json!({
        "upstreams": [up], "txt": [{ "name": "long.lab", "value": "y".repeat(3000) }],
    }));
    let reply = lab.ask_tcp(&question("some.example.org", A)).await;
    assert_eq!(read(&reply), (RCODE::NoError, vec!["192.0.2.3".to_owned()]));
    let reply = lab.ask_tcp(&question("long.lab", TXT)).await;
    assert_eq!(read(&reply).1, ["y".repeat(3000)]);
}

#[tokio::test]
async fn one_client_can_only_have_so_many_questions_and_connections_open() {
    let silent = upstream(|_| vec![]).await;
    let lab = run(json!({ "upstreams": [silent] }));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(lab.udp).await.unwrap();
    for _ in 0..80 {
        socket.send(&question("some.example.org", A)).await.unwrap();
    }
    let mut reply = [0; 512];
    let refused = tokio::time::timeout(Duration::from_secs(2), async {
        for _ in 0..16 {
            let length = socket.recv(&mut reply).await.unwrap();
            assert_eq!(read(&reply[..length]).0, RCODE::ServerFailure);
        }
    });
    refused.await.expect("those beyond 64 are answered at once");
    assert_eq!(read(&lab.ask(&question("web", A)).await).1, ["127.0.0.9"], "others are served");

    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(TcpStream::connect(lab.tcp).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut fifth = TcpStream::connect(lab.tcp).await.unwrap();
    let hung_up = tcp::read_message(&mut fifth, 512).await;
    assert!(matches!(hung_up, Ok(None) | Err(_)));
}

#[tokio::test]
async fn who_says_nothing_or_half_of_it_is_hung_up_on() {
    let shared = network(json!({}));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for beginning in [&[][..], &[0], &[0, 30, 1, 2, 3], &[0xff, 0xff, 1]] {
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let (served, address) = listener.accept().await.unwrap();
        let waiting = Gate::new(1, 1);
        let idle = Duration::from_millis(30);
        let ended = tcp::serve_client(served, address, &shared, &waiting, idle).await;
        assert!(ended.is_err(), "{beginning:?}");
        assert_eq!(shared.lock().dns.queries, 0);
    }
}
