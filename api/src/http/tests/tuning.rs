//! What domains get of the host, over the wire.

use serde_json::json;

use super::rig::Rig;

const XML: &str = "<domain type='kvm'><name>web</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>\
    <os><type>hvm</type><kernel>/k</kernel></os></domain>";

#[tokio::test]
async fn what_a_change_speaks_of_is_set_and_the_rest_stays() {
    let rig = Rig::new().await;
    assert_eq!(rig.call("POST /v1/domains", "application/xml", XML).await.status, 201);
    let tune = async |change: serde_json::Value| {
        let line = "PATCH /v1/domains/web/tuning";
        rig.call(line, "application/json", change.to_string()).await
    };
    let change = json!({"cpu": {"shares": 200, "quota_us": -1},
        "memory": {"hard_limit_bytes": 1 << 30},
        "pins": {"vcpus": [{"id": 1, "cpus": [0, 2]}]}});
    let reply = tune(change).await;
    assert_eq!(reply.status, 204, "{}", reply.text);
    assert_eq!(tune(json!({"cpu": {"shares": 0}})).await.status, 204);
    let tuning = rig.get("/v1/domains/web/tuning").await.json();
    assert_eq!(tuning["cpu"], json!({"quota_us": -1}));
    assert_eq!(tuning["memory"], json!({"hard_limit_bytes": 1 << 30}));
    let pins = json!([{"id": 0, "cpus": []}, {"id": 1, "cpus": [0, 2]}]);
    assert_eq!(tuning["pins"]["vcpus"], pins);
    let wrong = tune(json!({"cpu": {"shares": 20_000}})).await;
    assert_eq!((wrong.status.as_u16(), wrong.code()), (400, "invalid-argument".to_owned()));
    assert_eq!(tune(json!({"cpu": {"share": 1}})).await.status, 400, "no such member");
    assert_eq!(rig.get("/v1/domains/web/tuning?live=true").await.code(), "invalid-state");
}
