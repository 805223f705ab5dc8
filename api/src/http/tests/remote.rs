//! Callers from elsewhere, over TLS, on real sockets.

use std::sync::LazyLock;
use std::time::Duration;

use management::{Access, Role, Scope};
use manor_tests::vencrypt::Certificates;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::rig::Rig;
use crate::client::{Client, ClientError, Endpoint, Identity, IdentityParts};
use crate::http::remote::{self, Tls, TlsParts};
use crate::http::server::{Listener, serve};
use crate::types;

static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(|| Certificates::new().unwrap());

/// A daemon's door, and a rig that is inside already.
struct Door {
    rig: Rig,
    port: u16,
    tls: Tls,
    _stop: watch::Sender<bool>,
}

fn parts(certificates: &Certificates, clients: Vec<remote::Client>) -> TlsParts<'_> {
    TlsParts {
        certificate: certificates.server.certificate.as_bytes(),
        key: certificates.server.key.as_bytes(),
        client_authority: Some(certificates.authority.as_bytes()),
        clients,
    }
}

fn client(common_name: &str, role: Role, scope: Option<Scope>) -> remote::Client {
    remote::Client { common_name: common_name.to_owned(), role, scope }
}

impl Door {
    async fn open(clients: Vec<remote::Client>) -> Self {
        let rig = Rig::new().await;
        let tls = Tls::new(parts(&CERTIFICATES, clients)).unwrap();
        let listener = Listener::tls("127.0.0.1:0", tls.clone()).await.unwrap();
        let port = listener.port().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve(vec![listener], rig.router.clone(), stopped));
        Self { rig, port, tls, _stop: stop }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Tls(format!("127.0.0.1:{}", self.port))
    }

    fn client(&self, with_certificate: bool, token: Option<String>) -> Client {
        let viewer = &CERTIFICATES.viewer;
        let pair = (viewer.certificate.as_bytes(), viewer.key.as_bytes());
        let identity = Identity::new(IdentityParts {
            authorities: CERTIFICATES.authority.as_bytes(),
            certificate: with_certificate.then_some(pair),
            token,
        });
        Client::new(self.endpoint()).with_identity(identity.unwrap())
    }

    async fn token(&self, json: &str) -> String {
        let reply = self.rig.call("POST /v1/tokens", "application/json", json.to_owned()).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        reply.json()["secret"].as_str().unwrap().to_owned()
    }

    async fn define(&self, name: &str) {
        let xml = format!(
            "<domain type='kvm'><name>{name}</name><memory unit='MiB'>64</memory>\
             <os><type>hvm</type><kernel>/boot/vmlinuz</kernel></os></domain>"
        );
        let reply = self.rig.call("POST /v1/domains", "application/xml", xml).await;
        assert!(reply.status.is_success(), "{}", reply.text);
    }

    /// What comes back for these bytes without TLS.
    async fn plainly(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        String::from_utf8_lossy(&reply).into_owned()
    }
}

/// Status and code of a refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, String) {
    match result.unwrap_err() {
        ClientError::Refused(problem) => (problem.status, problem.code().to_owned()),
        other => panic!("{other:?}"),
    }
}

fn denied() -> (u16, String) {
    (403, "denied".to_owned())
}

fn unauthenticated() -> (u16, String) {
    (401, "unauthenticated".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_nothing_gets_nothing() {
    let door = Door::open(Vec::new()).await;
    let stranger = door.client(false, None);
    assert_eq!(refusal(stranger.node().await), unauthenticated());
    assert_eq!(refusal(stranger.capabilities().await), unauthenticated());
    assert_eq!(refusal(stranger.console("web", None, false).await.map(drop)), unauthenticated());
    assert_eq!(refusal(stranger.events(None, None).await.map(drop)), unauthenticated());
    let wrong = door.client(false, Some("manor_x".to_owned()));
    assert_eq!(refusal(wrong.node().await), unauthenticated());
    let audit = door.rig.get("/v1/audit").await.json();
    let first = &audit["records"][0];
    assert_eq!((&first["operation"], &first["result"]), (&"authenticate".into(), &"denied".into()));
    assert_eq!((&first["caller"], &first["via"]), (&"127.0.0.1".into(), &"unknown".into()));
    assert_eq!(audit["records"].as_array().unwrap().len(), 1, "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_as_far_as_its_role_and_its_domains_reach() {
    let door = Door::open(Vec::new()).await;
    for name in ["web", "db"] {
        door.define(name).await;
    }
    let reader = door.token(r#"{"name": "eye", "role": "reader"}"#).await;
    let reader = door.client(false, Some(reader));
    assert_eq!(reader.list(&types::ListQuery::default()).await.unwrap().len(), 2);
    assert_eq!(refusal(reader.start("web", types::Start::default()).await), denied());

    let operator = r#"{"name": "ci", "role": "operator", "domains": ["web"]}"#;
    let operator = door.client(false, Some(door.token(operator).await));
    let seen = operator.list(&types::ListQuery::default()).await.unwrap();
    assert_eq!(seen.iter().map(|domain| domain.name.as_str()).collect::<Vec<_>>(), ["web"]);
    assert_eq!(operator.all_stats().await.unwrap().domains.len(), 1);
    assert_eq!(refusal(operator.shutdown("web", None).await), (409, "invalid-state".to_owned()));
    assert_eq!(refusal(operator.shutdown("db", None).await), denied());
    assert_eq!(refusal(operator.node().await), denied());

    let admin = door.token(r#"{"name": "boss", "role": "admin", "lifetime_s": 3600}"#).await;
    let admin = door.client(false, Some(admin));
    assert_eq!(admin.tokens().await.unwrap().len(), 3);
    admin.revoke_token("ci").await.unwrap();
    assert_eq!(refusal(operator.shutdown("web", None).await), unauthenticated());
    let last = admin.audit(None, 2, 0).await.unwrap();
    assert_eq!(
        (last[0].operation.as_str(), last[0].caller.as_str()),
        ("token.revoke", "boss (127.0.0.1)")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_has_open_ends_when_it_is_revoked() {
    let door = Door::open(Vec::new()).await;
    let eye = door.client(false, Some(door.token(r#"{"name": "eye", "role": "reader"}"#).await));
    let ci = door.client(false, Some(door.token(r#"{"name": "ci", "role": "reader"}"#).await));
    let mut ended = eye.events(None, None).await.unwrap();
    let mut going = ci.events(None, None).await.unwrap();
    door.rig.call("DELETE /v1/tokens/eye", "", "").await;
    let end = tokio::time::timeout(Duration::from_secs(20), ended.next()).await.unwrap();
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
    door.define("web").await;
    let event = tokio::time::timeout(Duration::from_secs(20), going.next()).await.unwrap();
    assert_eq!(event.unwrap().unwrap().name.as_deref(), Some("web"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_has_open_ends_when_it_expires() {
    let door = Door::open(Vec::new()).await;
    let token = door.token(r#"{"name": "eye", "role": "reader", "lifetime_s": 1}"#).await;
    let mut events = door.client(false, Some(token)).events(None, None).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(20), events.next()).await.unwrap();
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_revokes_itself_hears_that_it_did() {
    let door = Door::open(Vec::new()).await;
    for _ in 0..10 {
        let boss = door.token(r#"{"name": "boss", "role": "admin"}"#).await;
        let boss = door.client(false, Some(boss));
        boss.revoke_token("boss").await.unwrap();
        assert_eq!(refusal(boss.tokens().await), unauthenticated());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_good_for_what_the_configuration_says() {
    let door = Door::open(vec![client("viewer", Role::Operator, Some(Scope::new(["web"])))]).await;
    for name in ["web", "db"] {
        door.define(name).await;
    }
    let viewer = door.client(true, None);
    assert_eq!(viewer.list(&types::ListQuery::default()).await.unwrap().len(), 1);
    assert_eq!(refusal(viewer.shutdown("web", None).await), (409, "invalid-state".to_owned()));
    assert_eq!(refusal(viewer.shutdown("db", None).await), denied());
    // A token goes before it, a wrong one too.
    let reader = door.token(r#"{"name": "eye", "role": "reader"}"#).await;
    assert_eq!(refusal(door.client(true, Some(reader)).shutdown("web", None).await), denied());
    let wrong = door.client(true, Some("manor_".to_owned()));
    assert_eq!(refusal(wrong.shutdown("web", None).await), unauthenticated());

    // From the next connection on: one whom nobody gave a role.
    door.tls.replace(parts(&CERTIFICATES, vec![client("other", Role::Admin, None)])).unwrap();
    assert_eq!(refusal(viewer.shutdown("web", None).await), denied());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authoritys_server_and_client_do_not_come_together() {
    let door = Door::open(vec![client("viewer", Role::Admin, None)]).await;
    let foreign = Certificates::new().unwrap();
    let identity = |authorities: &str, own: &Certificates| {
        let pair = (own.viewer.certificate.as_bytes(), own.viewer.key.as_bytes());
        Identity::new(IdentityParts {
            authorities: authorities.as_bytes(),
            certificate: Some(pair),
            token: None,
        })
        .unwrap()
    };
    let distrusts =
        Client::new(door.endpoint()).with_identity(identity(&foreign.authority, &CERTIFICATES));
    assert!(matches!(distrusts.node().await, Err(ClientError::Unreachable { .. })));
    let distrusted =
        Client::new(door.endpoint()).with_identity(identity(&CERTIFICATES.authority, &foreign));
    // By TLS 1.3 the server's refusal comes after the client is done.
    let refused = distrusted.node().await.unwrap_err();
    let is_cut = matches!(refused, ClientError::Unreachable { .. } | ClientError::Broken { .. });
    assert!(is_cut, "{refused:?}");
    // Trust is not assumed.
    assert!(matches!(
        Client::new(door.endpoint()).node().await,
        Err(ClientError::Unreachable { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_without_tls_is_told_so_and_gets_nothing_else() {
    let door = Door::open(Vec::new()).await;
    let reply = door.plainly(b"GET /v1/node HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{reply}");
    assert!(body.contains("https://"), "{reply}");
    assert_eq!(door.plainly(&[22, 3, 1, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0]).await.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_without_end_are_refused_without_a_word_in_the_log() {
    let door = Door::open(Vec::new()).await;
    let wrong = door.client(false, Some("manor_x".to_owned()));
    for _ in 0..10 {
        assert_eq!(refusal(wrong.node().await), unauthenticated());
    }
    assert_eq!(refusal(wrong.node().await), (429, "too-many-failures".to_owned()));
    // Nobody is kept out by what others at his address do: a token cannot be guessed.
    let right = door.token(r#"{"name": "eye", "role": "reader"}"#).await;
    door.client(false, Some(right)).node().await.unwrap();
    let audit = door.rig.get("/v1/audit").await.json();
    let turned_away = |record: &&serde_json::Value| record["operation"] == "authenticate";
    assert_eq!(audit["records"].as_array().unwrap().iter().filter(turned_away).count(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_server_is_called_by_its_name_and_by_no_foreign_page() {
    let door = Door::open(Vec::new()).await;
    let token = door.token(r#"{"name": "eye", "role": "reader"}"#).await;
    let ask = async |fields: &str| {
        let identity = door.client(false, None);
        let head = format!(
            "GET /v1/node HTTP/1.1\r\nAuthorization: bearer {token}\r\nConnection: close\r\n{fields}\r\n"
        );
        identity.raw(head.as_bytes()).await
    };
    let reply = ask("Host: node1.example:16515\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    let reply = ask("Host: node1.example\r\nOrigin: https://evil.example\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 403 "), "{reply}");
    let basic = "Host: node1.example\r\nAuthorization: Basic eDp5\r\n";
    let stranger = door.client(false, None);
    let head = format!("GET / HTTP/1.1\r\nConnection: close\r\n{basic}\r\n");
    let reply = stranger.raw(head.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 401 "), "{reply}");
    assert!(reply.to_lowercase().contains("www-authenticate: bearer"), "{reply}");
}

#[tokio::test]
async fn a_listener_is_told_what_is_wrong_with_its_files() {
    let [a, b] = [Certificates::new().unwrap(), Certificates::new().unwrap()];
    let mut mixed = parts(&a, Vec::new());
    mixed.key = b.server.key.as_bytes();
    assert!(Tls::new(mixed).is_err());
    for empty in [0, 1, 2] {
        let mut parts = parts(&a, Vec::new());
        match empty {
            0 => parts.certificate = b"",
            1 => parts.key = b"",
            _ => parts.client_authority = Some(b""),
        }
        assert!(Tls::new(parts).is_err(), "{empty}");
    }
    // A clear word to who forgets TLS.
    let refused = Listener::tcp("0.0.0.0:0", Access::Admin).await.unwrap_err().to_string();
    assert!(refused.contains("[listen] tcp"), "{refused}");
}
