//! Viewers that come in by TLS: through a whole screen, with sockets.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use manor_tests::rfb;
use manor_tests::vencrypt::{self, Certificates};

use super::tests::{expect_picture, paint, rig};
use super::{Listener, Screen, Sharing};
use crate::display::{Password, Terms, Tls, TlsError, TlsParts};

fn tls(certificates: &Certificates, viewers: Option<&str>) -> Result<Tls, TlsError> {
    let server = &certificates.server;
    Tls::new(&TlsParts {
        certificate: server.certificate.as_bytes(),
        key: server.key.as_bytes(),
        viewers: viewers.map(str::as_bytes),
    })
}

/// Where viewers come in by TLS.
fn listen(screen: &Screen, password: Option<&str>, tls: Tls) -> impl Fn() -> TcpStream + use<> {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let password = password.map(|text| Password { text: text.to_owned(), valid_to: None });
    let mut terms = Terms::new("guest", password);
    terms.tls = Some(tls);
    let sharing = Sharing::AllowExclusive;
    screen.listen(Listener { socket: socket.into(), terms: Arc::new(terms), sharing });
    move || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

#[test]
fn a_large_picture_comes_whole_through_tls() {
    let rig = rig();
    let certificates = Certificates::new().unwrap();
    let connect = listen(&rig.screen, None, tls(&certificates, None).unwrap());
    let mut viewer = vencrypt::connect(connect(), &certificates, false, None).unwrap();
    viewer.set_encodings(&[rfb::DESKTOP_SIZE]).unwrap();
    viewer.request(false).unwrap();
    // Raw, and no pixel like another: many records, and more than the socket takes.
    for round in 0..3 {
        paint(&rig.canvas, 1920, 1080 + round, |x, y| {
            (x * 0x1_0001 + y * 0x101 + round) & 0xff_ffff
        });
        expect_picture(&rig, &mut viewer);
    }
    // Many messages in one record.
    for _ in 0..2000 {
        viewer.key('a'.into(), true).unwrap();
    }
    paint(&rig.canvas, 64, 64, |_, _| 7);
    expect_picture(&rig, &mut viewer);
}

#[test]
fn the_password_is_asked_for_behind_tls() {
    let rig = rig();
    let certificates = Certificates::new().unwrap();
    let connect = listen(&rig.screen, Some("secret"), tls(&certificates, None).unwrap());
    vencrypt::connect(connect(), &certificates, false, Some("secret")).unwrap();
    let wrong = vencrypt::connect(connect(), &certificates, false, Some("guess")).err().unwrap();
    assert!(format!("{wrong:#}").contains("password"), "{wrong:#}");
}

#[test]
fn there_is_no_way_in_beside_tls() {
    let rig = rig();
    let certificates = Certificates::new().unwrap();
    let connect = listen(&rig.screen, None, tls(&certificates, None).unwrap());
    let said_to = |words: &[u8]| {
        let mut stream = connect();
        stream.write_all(words).unwrap();
        let mut said = Vec::new();
        // One that is sent away with words unread may see its connection broken off.
        let _ = stream.read_to_end(&mut said);
        said.split_off(12)
    };
    let old = said_to(b"RFB 003.003\n");
    assert_eq!(old[..4], [0; 4]);
    assert!(String::from_utf8_lossy(&old).contains("TLS"), "{old:?}");
    assert_eq!(said_to(b"RFB 003.008\n\x01"), [1, 19], "without security");
    assert_eq!(said_to(b"RFB 003.008\n\x13\x00\x01"), [1, 19, 0, 2, 255], "VeNCrypt 0.1");
    // TLSNone, which is anonymous.
    let offer = [1, 19, 0, 2, 0, 1, 0, 0, 1, 4];
    let anonymous = said_to(b"RFB 003.008\n\x13\x00\x02\x00\x00\x01\x01");
    assert_eq!(anonymous, [&offer[..], &[0]].concat());
    // What comes before TLS begins could be anybody's.
    let early = said_to(b"RFB 003.008\n\x13\x00\x02\x00\x00\x01\x04\x01");
    assert_eq!(early, [&offer[..], &[1]].concat());
    let nonsense = said_to(&[&b"RFB 003.008\n\x13\x00\x02"[..], &[0; 100]].concat());
    assert_eq!(nonsense, [&offer[..], &[0]].concat());
}

#[test]
fn nonsense_instead_of_tls_is_sent_away() {
    let rig = rig();
    let certificates = Certificates::new().unwrap();
    let connect = listen(&rig.screen, None, tls(&certificates, None).unwrap());
    let mut stream = connect();
    stream.write_all(b"RFB 003.008\n\x13\x00\x02\x00\x00\x01\x04").unwrap();
    stream.read_exact(&mut [0; 12 + 11]).unwrap();
    stream.write_all(&[0x55; 300]).unwrap();
    let mut alert = Vec::new();
    let _ = stream.read_to_end(&mut alert);
    assert_eq!(alert.first(), Some(&21), "{alert:?}");
    // Nobody else is disturbed.
    vencrypt::connect(connect(), &certificates, false, None).unwrap();
}

#[test]
fn viewers_are_known_by_their_certificates_where_that_is_asked() {
    let rig = rig();
    let certificates = Certificates::new().unwrap();
    let secured = tls(&certificates, Some(&certificates.authority)).unwrap();
    let connect = listen(&rig.screen, None, secured);
    vencrypt::connect(connect(), &certificates, true, None).unwrap();
    assert!(vencrypt::connect(connect(), &certificates, false, None).is_err());
}

#[test]
fn certificates_that_cannot_be_are_refused_by_what_is_wrong() {
    let [ours, others] = [(); 2].map(|()| Certificates::new().unwrap());
    let of = |certificate: &str, key: &str, viewers: Option<&str>| {
        let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
        Tls::new(&TlsParts { certificate, key, viewers: viewers.map(str::as_bytes) }).unwrap_err()
    };
    let (certificate, key) = (&ours.server.certificate, &ours.server.key);
    assert!(matches!(of("", key, None), TlsError::Certificate(_)));
    assert!(matches!(of(certificate, "nonsense", None), TlsError::Key(_)));
    assert!(matches!(of(certificate, &others.server.key, None), TlsError::Pair(_)));
    assert!(matches!(of(certificate, key, Some("")), TlsError::Authority(_)));
    let cut = &certificate[..certificate.len() / 2];
    assert!(matches!(of(cut, key, None), TlsError::Certificate(_)));
}
