//! Pools, volumes and jobs over the router.

use management::Access;

use super::rig::Rig;

const XML: &str = "application/xml";
const BYTES: &str = "application/octet-stream";

async fn with_pool() -> Rig {
    let rig = Rig::new().await;
    let path = rig.path("pool").display().to_string();
    let pool =
        format!("<pool type='dir'><name>p</name><target><path>{path}</path></target></pool>");
    let reply = rig.call("POST /v1/pools?start&build", XML, pool).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    assert!(reply.headers["location"].to_str().unwrap().starts_with("/v1/pools/"));
    assert_eq!(reply.json()["active"], true);
    rig
}

fn volume(name: &str, more: &str) -> String {
    format!("<volume><name>{name}</name><capacity>1048576</capacity>{more}</volume>")
}

const SPARSE: &str = "<allocation>0</allocation>";

#[tokio::test]
async fn a_volume_is_made_at_once_or_by_a_job() {
    let rig = with_pool().await;
    let reply = rig.call("POST /v1/pools/p/volumes", XML, volume("a", SPARSE)).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    assert_eq!(reply.json()["volume"]["capacity_bytes"], 1 << 20);
    let reply = rig.call("POST /v1/pools/p/volumes", XML, volume("b", "")).await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    let job = reply.headers["location"].to_str().unwrap().to_owned();
    let ended = rig.get(&format!("{job}?wait_ms=20000")).await.json();
    assert_eq!((&ended["phase"], &ended["done_bytes"]), (&"done".into(), &(1 << 20).into()));
    assert_eq!(rig.get("/v1/jobs").await.json()["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(rig.call(&format!("DELETE {job}"), "", "").await.code(), "invalid-state");
    let list = rig.get("/v1/pools/p/volumes").await.json();
    let names: Vec<_> = list["volumes"].as_array().unwrap().iter().map(|v| &v["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    let path = list["volumes"][0]["path"].as_str().unwrap();
    assert_eq!(rig.get(&format!("/v1/volumes?path={path}")).await.json()["name"], "a");
}

#[tokio::test]
async fn bytes_go_in_and_come_out() {
    let rig = with_pool().await;
    rig.call("POST /v1/pools/p/volumes", XML, volume("a", SPARSE)).await;
    let text = "some bytes".repeat(1000);
    let path = "/v1/pools/p/volumes/a/content";
    let reply = rig.call(&format!("PUT {path}?offset=4000"), BYTES, text.clone()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json()["phase"], "done");
    let reply = rig.get(&format!("{path}?offset=4000&length=10000")).await;
    assert_eq!(reply.text, text);
    assert_eq!(reply.headers["content-length"], "10000");
    assert_eq!(rig.get(&format!("{path}?offset=9999999")).await.code(), "invalid-argument");
}

#[tokio::test]
async fn mistakes_are_problems() {
    let rig = with_pool().await;
    for (line, kind, body, code) in [
        ("POST /v1/pools", XML, "<pool type='zfs'/>", "invalid-xml"),
        ("POST /v1/pools?build", XML, "<pool/>", "bad-request"),
        ("POST /v1/pools/p/start", "", "", "invalid-state"),
        ("POST /v1/pools/none/start", "", "", "not-found"),
        ("POST /v1/pools/p/volumes", XML, "<volume/>", "invalid-xml"),
        ("POST /v1/pools/p/volumes?from_pool=p", XML, "<volume/>", "bad-request"),
        ("GET /v1/pools/p/volumes/none", "", "", "not-found"),
        ("GET /v1/pools/p/volumes/..%2F..%2Fetc%2Fpasswd", "", "", "not-found"),
        ("DELETE /v1/pools/p/volumes/..%2Fx", "", "", "not-found"),
        ("GET /v1/volumes?path=/etc/passwd", "", "", "not-found"),
        ("GET /v1/jobs/no-uuid", "", "", "bad-request"),
        ("GET /v1/jobs/11111111-2222-3333-4444-555555555555?wait_ms=60001", "", "", "bad-request"),
        ("DELETE /v1/jobs/11111111-2222-3333-4444-555555555555", "", "", "not-found"),
    ] {
        assert_eq!(rig.call(line, kind, body).await.code(), code, "{line}");
    }
}

#[tokio::test]
async fn readers_read_and_do_nothing_else() {
    let mut rig = with_pool().await;
    rig.call("POST /v1/pools/p/volumes", XML, volume("a", SPARSE)).await;
    rig.access = Access::Read;
    for path in ["/v1/pools", "/v1/pools/p", "/v1/pools/p/xml", "/v1/pools/p/volumes", "/v1/jobs"] {
        assert_eq!(rig.get(path).await.status, 200, "{path}");
    }
    for (line, kind, body) in [
        ("POST /v1/pools/p/volumes", XML, volume("b", SPARSE)),
        ("POST /v1/pools/p/stop", "", String::new()),
        ("DELETE /v1/pools/p/volumes/a", "", String::new()),
        ("PUT /v1/pools/p/volumes/a/content", BYTES, "x".to_owned()),
        ("GET /v1/pools/p/volumes/a/content", "", String::new()),
        ("POST /v1/pools/p/volumes/a/wipe", "", String::new()),
    ] {
        assert_eq!(rig.call(line, kind, body).await.code(), "denied", "{line}");
    }
}
