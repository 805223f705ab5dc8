//! Requests that are refused before any operation runs, and the shape of every refusal.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse as _;
use management::{Access, Code, Error, Problem};

use super::rig::Rig;
use crate::http::{Failure, HttpCode, MAX_JSON, MAX_XML};

#[tokio::test]
async fn an_unknown_path_is_a_problem_that_names_it() {
    let reply = Rig::new().await.get("/v2/domains").await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::NOT_FOUND, "no-such-route"));
    assert!(reply.text.contains("/v2/domains"));
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let reply = Rig::new().await.call("POST /v1/node", "", "").await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(reply.code(), "method-not-allowed");
    assert!(reply.headers["allow"].to_str().unwrap().contains("GET"));
}

#[tokio::test]
async fn a_body_of_the_wrong_type_is_refused() {
    let rig = Rig::new().await;
    for kind in ["", "application/x-www-form-urlencoded", "text/plain"] {
        let reply = rig.call("POST /v1/domains", kind, "<domain/>").await;
        assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
        assert_eq!(reply.code(), "unsupported-media-type");
    }
    let reply = rig.call("POST /v1/domains/a/rename", "application/xml", "{}").await;
    assert_eq!(reply.code(), "unsupported-media-type");
    let reply = rig.call("PUT /v1/domains/a", "application/json", "{}").await;
    assert_eq!(reply.code(), "unsupported-media-type");
}

#[tokio::test]
async fn a_definition_in_json_has_its_xml_and_nothing_unknown_beside() {
    let rig = Rig::new().await;
    for (body, says) in [
        ("<domain/>", "line 1"),
        ("{\"cloud_init\":{\"user_data\":\"#cloud-config\"}}", "xml"),
        ("{\"xml\":\"<domain/>\",\"cloudinit\":{}}", "cloudinit"),
        ("{\"xml\":\"<domain/>\",\"cloud_init\":{}}", "user_data"),
    ] {
        let reply = rig.call("POST /v1/domains", "application/json", body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(reply.text.contains(says), "{body}: {}", reply.text);
    }
    let large = format!("{{\"xml\":\"{}\"}}", "x".repeat(MAX_XML + 1));
    let reply = rig.call("POST /v1/domains", "application/json", large).await;
    assert_eq!(reply.code(), "too-large");
    // What is wrong with the documents is said before the domain is looked at.
    let body = "{\"xml\":\"<domain/>\",\"cloud_init\":{\"user_data\":\"users: []\"}}";
    let reply = rig.call("POST /v1/domains", "application/json", body).await;
    assert!(reply.text.contains("user-data"), "{}", reply.text);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let rig = Rig::new().await;
    let reply = rig.call("POST /v1/domains", "application/xml", "x".repeat(MAX_XML + 1)).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too-large"));
    let json = format!("{{\"name\":\"{}\"}}", "x".repeat(MAX_JSON));
    let reply = rig.call("POST /v1/domains/a/rename", "application/json", json).await;
    assert_eq!(reply.code(), "too-large");
}

#[tokio::test]
async fn who_may_only_look_has_little_to_say() {
    let mut rig = Rig::new().await;
    rig.access = Access::Read;
    let long = format!("<domain>{}</domain>", " ".repeat(100 << 10));
    let json = format!("{{\"xml\":\"{long}\"}}");
    for (kind, body) in [("application/xml", long), ("application/json", json)] {
        let reply = rig.call("POST /v1/domains", kind, body).await;
        assert_eq!(reply.code(), "too-large", "{kind}");
    }
    // What is short is not read either: that it is no document is not what is said of it.
    let reply = rig.call("POST /v1/domains", "application/xml", "<no document").await;
    assert_eq!(reply.code(), "denied");
}

#[tokio::test]
async fn json_that_is_broken_deep_doubled_or_unknown_is_refused_with_its_place() {
    let rig = Rig::new().await;
    let deep = format!("{{\"name\":{}", "[".repeat(100_000));
    let enough = deep[..MAX_JSON].to_owned();
    for (body, says) in [
        ("{", "line 1"),
        ("[]", "an object is wanted"),
        ("\n[\"b\"]", "an object is wanted"),
        ("{\"name\":\"a\",\"name\":\"b\"}", "duplicate"),
        ("{\"name\":\"a\",\"colour\":1}", "colour"),
        ("{\"name\":1e999}", "out of range"),
        ("{\"name\":\"a\"} {}", "trailing"),
        ("{\"name\":\"\\ud800\"}", "hex escape"),
        (enough.as_str(), "line 1"),
    ] {
        let reply =
            rig.call("POST /v1/domains/a/rename", "application/json", body.to_owned()).await;
        assert_eq!((reply.status, reply.code().as_str()), (StatusCode::BAD_REQUEST, "bad-request"));
        assert!(reply.text.contains(says), "{}", reply.text);
    }
}

#[tokio::test]
async fn a_body_that_nobody_would_read_is_refused() {
    let rig = Rig::new().await;
    for (line, body, says) in [
        ("POST /v1/domains/a/start", r#"{"paused":true}"#, "the query: paused, reset_nvram"),
        ("POST /v1/domains/a/start", r#"{"fd":3}"#, "takes no body"),
        ("POST /v1/domains/a/reset", "<domain/>", "takes no body; send none"),
        ("DELETE /v1/domains/a", r#"{"nvram":"keep"}"#, "the query: "),
        ("GET /v1/domains", "active=true", "the query: "),
    ] {
        let reply = rig.call(line, "application/json", body).await;
        assert_eq!((reply.status, reply.code().as_str()), (StatusCode::BAD_REQUEST, "bad-request"));
        assert!(reply.text.contains(says), "{line}: {}", reply.text);
    }
    let long = rig.call("POST /v1/domains/a/start", "", vec![b' '; MAX_JSON + 1]).await;
    assert_eq!(long.code(), "too-large");
    // Some clients send one whatever they do.
    for nothing in ["", "{}", "null", " \r\n"] {
        let reply = rig.call("POST /v1/domains/a/start", "application/json", nothing).await;
        assert_eq!(reply.code(), "not-found", "{nothing:?}");
    }
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_refused() {
    let rig = Rig::new().await;
    for path in [
        "/v1/domains?colour=red",
        "/v1/domains?active=perhaps",
        "/v1/domains?state=sleeping",
        "/v1/domains?limit=-1",
        "/v1/domains/a/xml?inactive=perhaps",
        "/v1/events?after=yesterday",
        "/metrics?compat=other",
    ] {
        let reply = rig.get(path).await;
        assert_eq!((reply.status, reply.code().as_str()), (StatusCode::BAD_REQUEST, "bad-request"));
    }
    let headers = Request::get("/v1/events").header("last-event-id", "x");
    let reply = rig.send(headers.body(Body::empty()).unwrap()).await;
    assert_eq!(reply.code(), "bad-request");
}

#[tokio::test]
async fn a_read_only_caller_can_change_nothing() {
    let mut rig = Rig::new().await;
    rig.access = Access::Read;
    for (line, kind, body) in [
        ("POST /v1/domains", "application/xml", "<domain/>"),
        ("POST /v1/domains?transient", "application/xml", "<domain/>"),
        ("DELETE /v1/domains/a", "", ""),
        ("POST /v1/domains/a/start", "", ""),
        ("POST /v1/domains/a/shutdown", "", ""),
        ("POST /v1/domains/a/destroy", "", ""),
        ("POST /v1/domains/a/reboot", "", ""),
        ("POST /v1/domains/a/reset", "", ""),
        ("POST /v1/domains/a/suspend", "", ""),
        ("POST /v1/domains/a/resume", "", ""),
        ("POST /v1/domains/a/rename", "application/json", "{\"name\":\"b\"}"),
        ("PUT /v1/domains/a/autostart", "application/json", "{\"enabled\":true}"),
        ("PUT /v1/domains/a/memory", "application/json", "{\"bytes\":65536}"),
        ("PUT /v1/domains/a/memory/stats-period", "application/json", "{\"period_s\":1}"),
        ("PUT /v1/domains/a/interfaces/b/link", "application/json", "{\"state\":\"up\"}"),
        ("PUT /v1/domains/a/disks/sda/medium", "application/json", "{\"action\":\"eject\"}"),
        ("PUT /v1/domains/a/disks/vda/size", "application/json", "{\"bytes\":1}"),
        ("GET /v1/domains/a/guest", "", ""),
        ("GET /v1/domains/a/guest/hostname", "", ""),
        ("GET /v1/domains/a/guest/filesystems", "", ""),
        ("GET /v1/domains/a/guest/time", "", ""),
        ("GET /v1/domains/a/guest/exec/1", "", ""),
        ("GET /v1/domains/a/addresses?source=agent", "", ""),
        ("POST /v1/domains/a/guest/freeze", "application/json", "{}"),
        ("POST /v1/domains/a/guest/thaw", "", ""),
        ("POST /v1/domains/a/guest/trim", "application/json", "{}"),
        ("POST /v1/domains/a/guest/exec", "application/json", "{\"program\":\"x\"}"),
        ("POST /v1/domains/a/guest/agent-command", "application/json", "{\"command\":{}}"),
        ("PUT /v1/domains/a/guest/time", "application/json", "{}"),
        ("PUT /v1/domains/a/guest/users/u/password", "application/json", "{\"password\":\"x\"}"),
        ("GET /v1/domains/a/xml?secure", "", ""),
    ] {
        let reply = rig.call(line, kind, body).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (StatusCode::FORBIDDEN, "denied"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_request_without_a_caller_is_denied() {
    use tower::ServiceExt as _;
    let rig = Rig::new().await;
    let request = Request::get("/v1/domains").body(Body::empty()).unwrap();
    let response = rig.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_page_from_elsewhere_cannot_call() {
    let rig = Rig::new().await;
    let ask = async |host: &str, origin: Option<&str>| {
        let mut request = Request::get("/openapi.json").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        rig.send(request.body(Body::empty()).unwrap()).await
    };
    for (host, origin) in [
        ("127.0.0.1:8600", Some("https://evil.example")),
        ("127.0.0.1:8600", Some("null")),
        ("127.0.0.1:8600", Some("http://127.0.0.1:9000")),
        ("rebound.example:8600", None),
        ("rebound.example:8600", Some("http://rebound.example:8600")),
        ("127.0.0.1.evil.example", None),
    ] {
        let reply = ask(host, origin).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{host} {origin:?}");
        assert_eq!(reply.code(), "foreign-origin");
    }
    for (host, origin) in [
        ("127.0.0.1:8600", Some("http://127.0.0.1:8600")),
        ("localhost", None),
        ("[::1]:8600", Some("http://[::1]:8600")),
    ] {
        assert_eq!(ask(host, origin).await.status, StatusCode::OK, "{host} {origin:?}");
    }
}

#[tokio::test]
async fn a_console_without_websocket_says_what_is_needed() {
    let reply = Rig::new().await.get("/v1/domains/a/console").await;
    assert_eq!(reply.status, StatusCode::UPGRADE_REQUIRED);
    assert_eq!(reply.code(), "upgrade-required");
    assert_eq!(reply.headers["upgrade"], "websocket");
}

#[test]
fn every_code_has_a_type_of_its_own_and_an_error_status() {
    let mut kinds = BTreeSet::new();
    let management = Code::ALL.iter().map(|code| Failure::from(Error::new(*code, "it failed")));
    let http = HttpCode::ALL.iter().map(|code| Failure::new(*code, "it failed"));
    for failure in management.chain(http) {
        assert!(kinds.insert(failure.0.kind.clone()), "{} twice", failure.0.kind);
        let status = failure.status();
        assert!(status.is_client_error() || status.is_server_error(), "{}", failure.0.kind);
        assert_eq!(failure.into_response().status(), status);
    }
}

#[test]
fn statuses_say_whose_fault_it_is() {
    let status = |code| Failure::from(Error::new(code, "it failed")).status().as_u16();
    assert_eq!(status(Code::NotFound), 404);
    assert_eq!(status(Code::DeviceNotFound), 404);
    assert_eq!(status(Code::InvalidState), 409);
    assert_eq!(status(Code::Locked), 409);
    assert_eq!(status(Code::InvalidXml), 422);
    assert_eq!(status(Code::Denied), 403);
    assert_eq!(status(Code::NoSpace), 507);
    assert_eq!(status(Code::VmmUnreachable), 503);
    assert_eq!(status(Code::Internal), 500);
}

#[test]
fn a_mistake_in_xml_keeps_its_place_and_a_document_that_is_no_xml_is_a_bad_request() {
    let mistake = Problem {
        warning: false,
        kind: "malformed",
        line: 3,
        column: 7,
        path: "/domain/vpcu".into(),
        message: "unknown element".into(),
        expected: None,
        suggestion: Some("vcpu".into()),
    };
    let cause = std::io::Error::other("cause");
    let error = Error::new(Code::InvalidXml, "the definition is wrong")
        .with_source(cause)
        .with_problems(vec![mistake]);
    let failure = Failure::from(error);
    assert_eq!(failure.status(), StatusCode::BAD_REQUEST);
    assert_eq!(failure.0.causes, ["cause"]);
    let wire = serde_json::to_value(&failure.0).unwrap();
    let expected = serde_json::json!({"kind": "malformed", "line": 3, "column": 7,
        "path": "/domain/vpcu", "message": "unknown element", "suggestion": "vcpu"});
    assert_eq!(wire["errors"][0], expected);
}
