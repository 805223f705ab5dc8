//! Domains that are off, through every route that does not need a guest.

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::rig::{Reply, Rig};

const UUID: &str = "11111111-2222-3333-4444-555555555555";

fn xml(name: &str, uuid: &str) -> String {
    format!(
        "<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid><title>A title</title>\
         <memory unit='MiB'>64</memory><vcpu>2</vcpu>\
         <os><type>hvm</type><kernel>/boot/vmlinuz</kernel></os></domain>"
    )
}

async fn define(rig: &Rig, name: &str, uuid: &str) -> Reply {
    let reply = rig.call("POST /v1/domains", "application/xml", xml(name, uuid)).await;
    assert!(reply.status.is_success(), "{}", reply.text);
    reply
}

/// a, b, c with UUIDs in the opposite order.
async fn three() -> Rig {
    let rig = Rig::new().await;
    for (name, digit) in [("b", 2), ("c", 1), ("a", 3)] {
        define(&rig, name, &UUID.replace('1', &digit.to_string())).await;
    }
    rig
}

fn names(list: &Value) -> Vec<&str> {
    list["domains"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn defining_answers_with_the_domain_and_where_it_is() {
    let rig = Rig::new().await;
    let reply = define(&rig, "web", UUID).await;
    assert_eq!(reply.status, 201);
    assert_eq!(reply.headers["location"], format!("/v1/domains/{UUID}"));
    let domain = reply.json();
    let expected = json!({"name": "web", "uuid": UUID, "id": null, "title": "A title",
        "state": "shut-off", "persistent": true, "autostart": false,
        "max_memory_bytes": 64 << 20, "memory_bytes": 0, "vcpus": 2, "left_out": []});
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(&domain[member], value, "{member}");
    }
    assert_eq!(define(&rig, "web", UUID).await.status, 200);
    for name in ["web", UUID] {
        assert_eq!(rig.get(&format!("/v1/domains/{name}")).await.json()["name"], "web");
    }
}

#[tokio::test]
async fn every_mistake_of_a_document_comes_with_its_place() {
    let rig = Rig::new().await;
    let wrong = xml("web", UUID).replace("<vcpu>", "\n<vpcu>").replace("</vcpu>", "</vpcu>");
    let wrong = wrong.replace("kvm", "kmv");
    let reply = rig.call("POST /v1/domains", "application/xml", wrong).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (422, "invalid-xml"));
    let errors = reply.json()["errors"].clone();
    let at = |path: &str| {
        let all = errors.as_array().unwrap();
        all.iter().find(|e| e["path"] == path).unwrap_or_else(|| panic!("{path}: {errors}")).clone()
    };
    assert_eq!(
        (at("/domain/vpcu")["line"].clone(), at("/domain/vpcu")["column"].clone()),
        (2.into(), 1.into())
    );
    assert!(at("/domain/vpcu")["suggestion"].as_str().unwrap().contains("vcpu"));
    assert_eq!(at("/domain/@type")["line"], 1);

    let reply = rig.call("POST /v1/domains", "application/xml", "<domain><name>").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "invalid-xml"));
    assert_eq!(rig.get("/v1/domains").await.json()["domains"], json!([]));
}

#[tokio::test]
async fn checking_stores_nothing() {
    let rig = Rig::new().await;
    let check = "POST /v1/domains?check";
    assert_eq!(rig.call(check, "text/xml", xml("web", UUID)).await.status, 204);
    assert_eq!(rig.call(check, "text/xml", xml("w/b", UUID)).await.status, 422);
    assert_eq!(rig.get("/v1/domains").await.json()["domains"], json!([]));
}

#[tokio::test]
async fn lists_are_filtered_and_cut_into_pages_that_miss_nobody() {
    let rig = three().await;
    let set = json!({"enabled": true}).to_string();
    let reply = rig.call("PUT /v1/domains/b/autostart", "application/json", set).await;
    assert_eq!(reply.status, 204);
    for (query, expected) in [
        ("", &["a", "b", "c"][..]),
        ("?autostart=true", &["b"]),
        ("?autostart=false", &["a", "c"]),
        ("?active=true", &[]),
        ("?active=false&persistent=true", &["a", "b", "c"]),
        ("?persistent=false", &[]),
        ("?state=shut-off,running", &["a", "b", "c"]),
        ("?state=running", &[]),
    ] {
        let list = rig.get(&format!("/v1/domains{query}")).await.json();
        assert_eq!(names(&list), expected, "{query}");
    }
    let first = rig.get("/v1/domains?limit=2").await.json();
    assert_eq!(names(&first), ["a", "b"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    // Whoever goes meanwhile leaves no gap.
    assert_eq!(rig.call("DELETE /v1/domains/b", "", "").await.status, 204);
    let second = rig.get(&format!("/v1/domains?limit=2&cursor={cursor}")).await.json();
    assert_eq!((names(&second), second.get("next_cursor")), (vec!["c"], None));
}

#[tokio::test]
async fn xml_goes_out_as_xml_and_comes_back_as_the_same_domain() {
    let rig = Rig::new().await;
    define(&rig, "web", UUID).await;
    let reply = rig.get("/v1/domains/web/xml?inactive").await;
    assert_eq!(reply.headers["content-type"], "application/xml");
    assert!(reply.text.starts_with("<domain type='kvm'>"), "{}", reply.text);
    let again = rig.call("POST /v1/domains", "application/xml", reply.text.clone()).await;
    assert_eq!(again.status, 200);
    assert_eq!(rig.get("/v1/domains/web/xml").await.text, reply.text);
}

#[tokio::test]
async fn a_definition_that_was_changed_meanwhile_is_not_overwritten() {
    let rig = Rig::new().await;
    define(&rig, "web", UUID).await;
    let tag = rig.get("/v1/domains/web").await.headers["etag"].to_str().unwrap().to_owned();
    let put = async |tag: &str, body: String| {
        let request = Request::put("/v1/domains/web").header("content-type", "application/xml");
        rig.send(request.header("if-match", tag).body(Body::from(body)).unwrap()).await
    };
    let without_uuid = xml("web", UUID).replace(&format!("<uuid>{UUID}</uuid>"), "");
    let mine = put(&tag, without_uuid.replace("A title", "Mine")).await;
    assert_eq!(mine.status, 200, "{}", mine.text);
    assert_eq!((&mine.json()["title"], &mine.json()["uuid"]), (&json!("Mine"), &json!(UUID)));
    let theirs = put(&tag, xml("web", UUID).replace("A title", "Theirs")).await;
    assert_eq!((theirs.status.as_u16(), theirs.code().as_str()), (412, "changed"));
    assert_eq!(rig.get("/v1/domains/web").await.json()["title"], "Mine");

    let now = mine.headers["etag"].to_str().unwrap().to_owned();
    assert_ne!(now, tag);
    assert_eq!(put(&now, xml("web", UUID)).await.status, 200);
    assert_eq!(put("*", xml("web", UUID)).await.status, 200);
    assert_eq!(put("yesterday", xml("web", UUID)).await.code(), "bad-request");
    assert_eq!(put("*", xml("other", UUID)).await.code(), "invalid-argument");
    let other = xml("web", &UUID.replace('1', "9"));
    assert_eq!(put("*", other).await.code(), "invalid-argument");
    let nobody = rig.call("PUT /v1/domains/nobody", "application/xml", xml("nobody", UUID)).await;
    assert_eq!(nobody.code(), "not-found");
}

#[tokio::test]
async fn a_cable_is_pulled_in_the_definition_of_a_domain_that_is_off() {
    let rig = Rig::new().await;
    let mac = "52:54:00:11:22:33";
    let interface = format!(
        "<devices><interface type='bridge'><mac address='{mac}'/><source bridge='br0'/>\
         <target dev='tap7'/><model type='virtio'/></interface></devices></domain>"
    );
    let text = xml("web", UUID).replace("</domain>", &interface);
    assert_eq!(rig.call("POST /v1/domains", "application/xml", text).await.status, 201);
    let set = async |place: &str, state: &str| {
        let line = format!("PUT /v1/domains/{place}");
        rig.call(&line, "application/json", json!({"state": state}).to_string()).await
    };
    let link = async || {
        let all = rig.get("/v1/domains/web/interfaces").await.json();
        all[0]["link"].as_str().unwrap().to_owned()
    };
    assert_eq!(link().await, "up");
    let etag = async || rig.get("/v1/domains/web").await.headers["etag"].clone();
    let before = etag().await;
    assert_eq!(set(&format!("web/interfaces/{mac}/link"), "down").await.status, 204);
    assert_eq!(link().await, "down");
    assert!(rig.get("/v1/domains/web/xml").await.text.contains("<link state='down'/>"));
    let after = etag().await;
    assert_ne!(after, before);
    // Nothing that changes nothing is a change.
    assert_eq!(set("web/interfaces/52:54:0:11:22:33/link?config", "down").await.status, 204);
    assert_eq!(etag().await, after);
    assert_eq!(set("web/interfaces/tap7/link?config=true", "up").await.status, 204);
    assert_eq!(link().await, "up");

    for (place, state, status, code) in [
        ("nobody/interfaces/tap7/link", "down", 404, "not-found"),
        ("web/interfaces/tap8/link", "down", 404, "device-not-found"),
        ("web/interfaces/52:54:00:00:00:00/link", "down", 404, "device-not-found"),
        ("web/interfaces/tap7/link?live", "down", 409, "invalid-state"),
        ("web/interfaces/tap7/link?live&config", "down", 409, "invalid-state"),
        ("web/interfaces/tap7/link", "sideways", 400, "bad-request"),
        ("web/interfaces/tap7/link?next", "down", 400, "bad-request"),
    ] {
        let reply = set(place, state).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{place}");
    }
    let unknown = set("web/interfaces/tap8/link", "down").await.text;
    assert!(unknown.contains(&format!("it has tap7 ({mac})")), "{unknown}");
    assert_eq!(link().await, "up");
}

#[tokio::test]
async fn memory_is_set_in_the_definition_of_a_domain_that_is_off() {
    let rig = Rig::new().await;
    define(&rig, "web", UUID).await;
    let put = async |place: &str, body: Value| {
        let line = format!("PUT /v1/domains/web/memory{place}");
        rig.call(&line, "application/json", body.to_string()).await
    };
    assert_eq!(put("", json!({"bytes": 40 << 20})).await.status, 204);
    assert_eq!(put("/stats-period?config", json!({"period_s": 3})).await.status, 204);
    let text = rig.get("/v1/domains/web/xml").await.text;
    assert!(text.contains("<currentMemory unit='KiB'>40960</currentMemory>"), "{text}");
    assert!(text.contains("<stats period='3'/>"), "{text}");
    for (place, body, status, code) in [
        ("", json!({"bytes": 65 << 20}), 400, "invalid-argument"),
        ("", json!({"bytes": 0}), 400, "invalid-argument"),
        ("?live", json!({"bytes": 40 << 20}), 409, "invalid-state"),
        ("", json!({"bytes": -1}), 400, "bad-request"),
        ("", json!({"kib": 1}), 400, "bad-request"),
        ("/stats-period?live", json!({"period_s": 1}), 409, "invalid-state"),
    ] {
        let reply = put(place, body).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{place}");
    }
}

#[tokio::test]
async fn names_are_taken_once_and_what_is_gone_is_gone() {
    let rig = three().await;
    let rename = |from: &str, to: &str| {
        let line = format!("POST /v1/domains/{from}/rename");
        let body = json!({"name": to}).to_string();
        let rig = &rig;
        async move { rig.call(&line, "application/json", body).await }
    };
    assert_eq!(rename("a", "b").await.code(), "exists");
    assert_eq!(rename("a", "z").await.status, 204);
    assert_eq!(rename("a", "y").await.code(), "not-found");
    let taken = rig.call("POST /v1/domains", "application/xml", xml("b", &UUID.replace('1', "8")));
    assert_eq!(taken.await.code(), "exists");
    assert_eq!(rig.call("DELETE /v1/domains/z", "", "").await.status, 204);
    assert_eq!(rig.get("/v1/domains/z").await.code(), "not-found");
    assert_eq!(rig.call("POST /v1/domains/b/suspend", "", "").await.code(), "invalid-state");
    let percent = rig.get("/v1/domains/%ff").await;
    assert_eq!(percent.status, 400);
}

#[tokio::test]
async fn metrics_have_both_vocabularies() {
    let rig = Rig::new().await;
    define(&rig, "web", UUID).await;
    let own = rig.get("/metrics").await;
    assert!(own.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    for line in [
        "# TYPE manor_domains gauge".to_owned(),
        "manor_domains{state=\"shut off\"} 1".to_owned(),
        format!("manor_domain_memory_max_bytes{{domain=\"web\",uuid=\"{UUID}\"}} 67108864"),
        format!("manor_domain_vcpus{{domain=\"web\",uuid=\"{UUID}\"}} 2"),
    ] {
        assert!(own.text.lines().any(|found| found == line), "{line}\n{}", own.text);
    }
    let compat = rig.get("/metrics?compat=libvirt").await.text;
    assert!(compat.contains("libvirt_domain_info_maximum_memory_bytes{domain=\"web\"} 67108864\n"));
    assert!(compat.contains("libvirt_up 1\n") && !compat.contains("manor_"));
    for text in [own.text, compat] {
        let mut seen = std::collections::BTreeSet::new();
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            assert!(seen.insert(name.to_owned()), "{name} stands twice");
        }
    }
}

/// The next `count` events after one, as (id, event, data).
async fn events(rig: &Rig, after: &str, count: usize) -> Vec<(String, String, Value)> {
    use tower::ServiceExt as _;
    let mut request = Request::get("/v1/events").body(Body::empty()).unwrap();
    request.headers_mut().insert("last-event-id", after.parse().unwrap());
    request.extensions_mut().insert(management::Caller::new("test", rig.access));
    let response = rig.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body().into_data_stream();
    let mut text = String::new();
    while text.matches("\n\n").count() < count {
        text.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
    }
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("data:")).take(count);
    blocks
        .map(|block| {
            let data = serde_json::from_str(&field(block, "data:")).unwrap();
            (field(block, "id:"), field(block, "event:"), data)
        })
        .collect()
}

#[tokio::test]
async fn events_begin_where_a_client_left_off() {
    let rig = Rig::new().await;
    // The network that every host begins with.
    let first = events(&rig, "0", 1).await.remove(0);
    assert_eq!((first.1.as_str(), &first.2["network"]), ("network", &json!("default")));
    define(&rig, "web", UUID).await;
    define(&rig, "web", UUID).await;
    rig.call("DELETE /v1/domains/web", "", "").await;
    let all = events(&rig, &first.0, 3).await;
    let words: Vec<_> = all
        .iter()
        .map(|(id, event, data)| {
            assert_eq!((event.as_str(), &data["id"].to_string()), ("lifecycle", id));
            assert_eq!((&data["name"], &data["uuid"]), (&json!("web"), &json!(UUID)));
            format!("{} {}", data["lifecycle"], data["detail"]).replace('"', "")
        })
        .collect();
    assert_eq!(words, ["Defined Added", "Defined Updated", "Undefined Removed"]);
    assert_eq!(events(&rig, &all[1].0, 1).await, [all[2].clone()]);
}
