//! Disks on NBD servers.

use broker::Peer;

use super::{defined, domain, refused};
use crate::translate::nbd::{Export, export};

fn disk(source: &str) -> String {
    domain(&format!(
        "<disk type='network'><driver name='qemu' type='raw'/>{source}\
         <target dev='vda' bus='virtio'/></disk>"
    ))
}

fn of(source: &str) -> Export {
    export(&defined(&disk(source)).devices.disks[0]).unwrap()
}

#[test]
fn a_server_is_where_the_definition_says() {
    let tcp = of("<source protocol='nbd' name='web'><host name='nbd.example.org'/></source>");
    let host = "nbd.example.org".to_owned();
    let peer = Peer::Tcp { host: host.clone(), port: 10809 };
    let expected = Export { peer, name: "web".to_owned(), tls: None, reconnect_delay: 30 };
    assert_eq!(tcp, expected);

    let tls = of("<source protocol='nbd' name='web' tls='yes'>\
         <host name='nbd.example.org' port='7'/><reconnect delay='0'/></source>");
    let peer = Peer::Tcp { host: host.clone(), port: 7 };
    let expected = Export { peer, name: "web".to_owned(), tls: Some(host), reconnect_delay: 0 };
    assert_eq!(tls, expected);

    let unix = of("<source protocol='nbd' tls='yes' tlsHostname='a'>\
         <host transport='unix' socket='/run/nbd.sock'/></source>");
    assert_eq!(unix.peer, Peer::Unix { path: "/run/nbd.sock".into() });
    assert_eq!((unix.name.as_str(), unix.tls.as_deref()), ("", Some("a")));
}

#[test]
fn what_is_written_comes_back() {
    let source = "<source protocol=\"nbd\" name=\"web\" tls=\"yes\">\n        \
         <host name=\"a\" port=\"7\"/>\n        <reconnect delay=\"5\"/>";
    let text = defined(&disk(&format!("{source}</source>"))).to_xml().replace('\'', "\"");
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat(&text).contains(&flat(source)), "{text}");
}

#[test]
fn what_cannot_be_had_is_refused_by_name() {
    for (source, expected) in [
        ("<source protocol='rbd' name='p/i'><host name='a'/></source>", "a disk over rbd"),
        ("<source protocol='nbd' name='web'/>", "says where the NBD server is"),
        ("<source protocol='nbd'><host name='a'/><host name='b'/></source>", "several servers"),
        ("<source protocol='nbd'><host transport='rdma' name='a'/></source>", "RDMA"),
        ("<source protocol='nbd'><host transport='unix'/></source>", "socket="),
        ("<source protocol='nbd'><host transport='unix' socket='s'/></source>", "absolute"),
        ("<source protocol='nbd'><host name='a' port='0'/></source>", "no port 0"),
        (
            "<source protocol='nbd' tls='yes'><host transport='unix' socket='/s'/></source>",
            "tlsHostname",
        ),
    ] {
        let error = refused(&disk(source));
        let found = error.problems.iter().any(|problem| problem.to_string().contains(expected));
        assert!(found, "{source}: {error} {:?}", error.problems);
    }
    let text = disk("<source protocol='nbd'><host name='a'/></source>").replace("'raw'", "'qcow2'");
    let error = refused(&text);
    assert!(error.problems[0].to_string().contains("have the server open it"), "{error}");
}
