//! The description and the service are one.

use std::collections::BTreeSet;

use serde_json::Value;

use super::rig::Rig;

/// What clients rely on. A route that is added is added here too; one that goes breaks them.
const ROUTES: &[&str] = &[
    "DELETE /v1/domains/{domain}",
    "DELETE /v1/domains/{domain}/checkpoints/{checkpoint}",
    "DELETE /v1/domains/{domain}/devices/{device}",
    "DELETE /v1/domains/{domain}/disks/{disk}/block-job",
    "DELETE /v1/domains/{domain}/iothreads/{iothread}",
    "DELETE /v1/domains/{domain}/managed-save",
    "DELETE /v1/domains/{domain}/snapshots/{snapshot}",
    "DELETE /v1/filters/{filter}",
    "DELETE /v1/jobs/{job}",
    "DELETE /v1/networks/{network}",
    "DELETE /v1/pools/{pool}",
    "DELETE /v1/pools/{pool}/volumes/{volume}",
    "DELETE /v1/tokens/{token}",
    "DELETE /v1/users/{name}",
    "GET /metrics",
    "GET /openapi.json",
    "GET /v1/audit",
    "GET /v1/domains",
    "GET /v1/domains/{domain}",
    "GET /v1/domains/{domain}/addresses",
    "GET /v1/domains/{domain}/backup",
    "GET /v1/domains/{domain}/block-jobs",
    "GET /v1/domains/{domain}/checkpoints",
    "GET /v1/domains/{domain}/checkpoints/{checkpoint}",
    "GET /v1/domains/{domain}/console",
    "GET /v1/domains/{domain}/current-snapshot",
    "GET /v1/domains/{domain}/disks",
    "GET /v1/domains/{domain}/disks/{disk}/peek",
    "GET /v1/domains/{domain}/disks/{disk}/size",
    "GET /v1/domains/{domain}/guest",
    "GET /v1/domains/{domain}/guest/exec/{pid}",
    "GET /v1/domains/{domain}/guest/filesystems",
    "GET /v1/domains/{domain}/guest/hostname",
    "GET /v1/domains/{domain}/guest/time",
    "GET /v1/domains/{domain}/guest/users/{user}/ssh-keys",
    "GET /v1/domains/{domain}/guest/vcpus",
    "GET /v1/domains/{domain}/interfaces",
    "GET /v1/domains/{domain}/managed-save/xml",
    "GET /v1/domains/{domain}/memory/peek",
    "GET /v1/domains/{domain}/metadata",
    "GET /v1/domains/{domain}/screenshot",
    "GET /v1/domains/{domain}/security",
    "GET /v1/domains/{domain}/snapshots",
    "GET /v1/domains/{domain}/snapshots/{snapshot}",
    "GET /v1/domains/{domain}/snapshots/{snapshot}/xml",
    "GET /v1/domains/{domain}/state",
    "GET /v1/domains/{domain}/stats",
    "GET /v1/domains/{domain}/tuning",
    "GET /v1/domains/{domain}/vnc",
    "GET /v1/domains/{domain}/xml",
    "GET /v1/events",
    "GET /v1/filter-bindings",
    "GET /v1/filter-bindings/{device}",
    "GET /v1/filters",
    "GET /v1/filters/{filter}",
    "GET /v1/images/users",
    "GET /v1/jobs",
    "GET /v1/jobs/{job}",
    "GET /v1/networks",
    "GET /v1/networks/{network}",
    "GET /v1/networks/{network}/leases",
    "GET /v1/networks/{network}/ports",
    "GET /v1/networks/{network}/ports/{port}/xml",
    "GET /v1/networks/{network}/xml",
    "GET /v1/node",
    "GET /v1/node/capabilities",
    "GET /v1/node/cells",
    "GET /v1/node/cpus/{cpu}",
    "GET /v1/node/devices",
    "GET /v1/node/devices/{device}",
    "GET /v1/node/domain-capabilities",
    "GET /v1/node/interfaces",
    "GET /v1/node/pool-capabilities",
    "GET /v1/node/pool-sources/{kind}",
    "GET /v1/node/shared-memory",
    "GET /v1/node/sysinfo",
    "GET /v1/pools",
    "GET /v1/pools/{pool}",
    "GET /v1/pools/{pool}/volumes",
    "GET /v1/pools/{pool}/volumes/{volume}",
    "GET /v1/pools/{pool}/volumes/{volume}/content",
    "GET /v1/pools/{pool}/volumes/{volume}/xml",
    "GET /v1/pools/{pool}/xml",
    "GET /v1/saved/xml",
    "GET /v1/stats",
    "GET /v1/tokens",
    "GET /v1/users",
    "GET /v1/volumes",
    "PATCH /v1/domains/{domain}/metadata",
    "PATCH /v1/domains/{domain}/tuning",
    "PATCH /v1/node/shared-memory",
    "POST /v1/domains",
    "POST /v1/domains/{domain}/apply",
    "POST /v1/domains/{domain}/backup",
    "POST /v1/domains/{domain}/checkpoints",
    "POST /v1/domains/{domain}/clone",
    "POST /v1/domains/{domain}/destroy",
    "POST /v1/domains/{domain}/devices",
    "POST /v1/domains/{domain}/devices/detach",
    "POST /v1/domains/{domain}/disks/{disk}/block-job",
    "POST /v1/domains/{domain}/dump",
    "POST /v1/domains/{domain}/guest/agent-command",
    "POST /v1/domains/{domain}/guest/exec",
    "POST /v1/domains/{domain}/guest/freeze",
    "POST /v1/domains/{domain}/guest/sleep",
    "POST /v1/domains/{domain}/guest/thaw",
    "POST /v1/domains/{domain}/guest/trim",
    "POST /v1/domains/{domain}/managed-save",
    "POST /v1/domains/{domain}/memory/dirty-rate",
    "POST /v1/domains/{domain}/nmi",
    "POST /v1/domains/{domain}/plan",
    "POST /v1/domains/{domain}/reboot",
    "POST /v1/domains/{domain}/rename",
    "POST /v1/domains/{domain}/reset",
    "POST /v1/domains/{domain}/resume",
    "POST /v1/domains/{domain}/save",
    "POST /v1/domains/{domain}/send-keys",
    "POST /v1/domains/{domain}/shutdown",
    "POST /v1/domains/{domain}/snapshots",
    "POST /v1/domains/{domain}/snapshots/{snapshot}/revert",
    "POST /v1/domains/{domain}/start",
    "POST /v1/domains/{domain}/suspend",
    "POST /v1/filters",
    "POST /v1/import/apply",
    "POST /v1/import/plan",
    "POST /v1/networks",
    "POST /v1/networks/{network}/start",
    "POST /v1/networks/{network}/stop",
    "POST /v1/networks/{network}/update",
    "POST /v1/node/cpu/baseline",
    "POST /v1/node/cpu/compare",
    "POST /v1/node/huge-pages",
    "POST /v1/pools",
    "POST /v1/pools/{pool}/build",
    "POST /v1/pools/{pool}/delete",
    "POST /v1/pools/{pool}/refresh",
    "POST /v1/pools/{pool}/start",
    "POST /v1/pools/{pool}/stop",
    "POST /v1/pools/{pool}/volumes",
    "POST /v1/pools/{pool}/volumes/{volume}/clone",
    "POST /v1/pools/{pool}/volumes/{volume}/resize",
    "POST /v1/pools/{pool}/volumes/{volume}/wipe",
    "POST /v1/saved/check",
    "POST /v1/saved/clone",
    "POST /v1/saved/restore",
    "POST /v1/tokens",
    "PUT /v1/domains/{domain}",
    "PUT /v1/domains/{domain}/autostart",
    "PUT /v1/domains/{domain}/devices",
    "PUT /v1/domains/{domain}/disks/{disk}/block-job",
    "PUT /v1/domains/{domain}/disks/{disk}/medium",
    "PUT /v1/domains/{domain}/disks/{disk}/size",
    "PUT /v1/domains/{domain}/disks/{disk}/threshold",
    "PUT /v1/domains/{domain}/guest/time",
    "PUT /v1/domains/{domain}/guest/timeout",
    "PUT /v1/domains/{domain}/guest/users/{user}/password",
    "PUT /v1/domains/{domain}/guest/users/{user}/ssh-keys",
    "PUT /v1/domains/{domain}/guest/vcpus",
    "PUT /v1/domains/{domain}/interfaces/{interface}/link",
    "PUT /v1/domains/{domain}/iothreads/{iothread}",
    "PUT /v1/domains/{domain}/lifecycle-action",
    "PUT /v1/domains/{domain}/managed-save",
    "PUT /v1/domains/{domain}/memory",
    "PUT /v1/domains/{domain}/memory/stats-period",
    "PUT /v1/domains/{domain}/snapshots",
    "PUT /v1/domains/{domain}/vcpus",
    "PUT /v1/networks/{network}/autostart",
    "PUT /v1/pools/{pool}/autostart",
    "PUT /v1/pools/{pool}/volumes/{volume}/content",
    "PUT /v1/saved",
    "PUT /v1/users/{name}",
];

pub(super) fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, op)| (format!("{} {path}", method.to_uppercase()), op))
        })
        .collect()
}

#[tokio::test]
async fn the_description_lists_every_route_and_no_other() {
    let document = Rig::new().await.get("/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let described: BTreeSet<_> = operations(&document).into_iter().map(|(line, _)| line).collect();
    assert_eq!(described, ROUTES.iter().map(|route| (*route).to_owned()).collect());
}

#[tokio::test]
async fn every_described_route_is_served() {
    let rig = Rig::new().await;
    for route in ROUTES {
        let line = route.replace("{domain}", "no-such-domain").replace("{interface}", "vnet0");
        let reply = rig.call(&line, "", "").await;
        assert_ne!(reply.status, 405, "{route}");
        if reply.status == 404 {
            assert_ne!(reply.code(), "no-such-route", "{route}");
        }
    }
}

#[tokio::test]
async fn every_operation_says_what_it_does_how_it_succeeds_and_how_it_fails() {
    let document = Rig::new().await.get("/openapi.json").await.json();
    let mut names = BTreeSet::new();
    for (line, operation) in operations(&document) {
        assert!(!operation["summary"].as_str().unwrap_or("").is_empty(), "{line}: no summary");
        assert_eq!(operation["tags"].as_array().unwrap().len(), 1, "{line}");
        assert!(names.insert(operation["operationId"].as_str().unwrap()), "{line}: id not unique");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status < &"400".to_owned()), "{line}");
        let failure = &responses["default"]["content"]["application/problem+json"]["schema"];
        assert_eq!(failure["$ref"], "#/components/schemas/Problem", "{line}");
        let described = line.matches('{').count();
        let path_parameters = operation["parameters"].as_array().map_or(0, |parameters| {
            parameters.iter().filter(|parameter| parameter["in"] == "path").count()
        });
        assert_eq!(path_parameters, described, "{line}");
    }
}

#[tokio::test]
async fn the_description_says_how_a_token_is_sent() {
    let document = Rig::new().await.get("/openapi.json").await.json();
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    assert_eq!(document["security"], serde_json::json!([{}, {"token": []}]));
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let document = Rig::new().await.get("/openapi.json").await.json();
    let mut found = 0;
    visit(&document, &mut |reference| {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        found += 1;
    });
    assert!(found > 20, "only {found} references");
}

fn visit(value: &Value, on_reference: &mut impl FnMut(&str)) {
    match value {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                on_reference(reference);
            }
            members.values().for_each(|member| visit(member, on_reference));
        }
        Value::Array(items) => items.iter().for_each(|item| visit(item, on_reference)),
        _ => {}
    }
}

#[tokio::test]
async fn the_page_is_served_whole_and_asks_nothing_of_other_servers() {
    let rig = Rig::new().await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/docs", "text/html"),
        ("/docs/docs.js", "text/javascript"),
        ("/docs/docs.css", "text/css"),
        ("/screen", "text/html"),
        ("/screen/screen.js", "text/javascript"),
        ("/screen/screen.css", "text/css"),
    ] {
        let reply = rig.get(path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.headers["content-type"].to_str().unwrap().starts_with(kind), "{path}");
        assert!(reply.headers["content-security-policy"].to_str().unwrap().contains("'none'"));
        let outside: Vec<_> = reply
            .text
            .match_indices("://")
            .map(|(at, _)| &reply.text[at.saturating_sub(5)..(at + 20).min(reply.text.len())])
            // An XML namespace, the example command line for curl, and the service's own address.
            .filter(|text| !text.contains("www.w3.org/") && !text.contains("http://localhost"))
            .filter(|text| !text.contains("eme}://${location.host}"))
            .collect();
        assert_eq!(outside, Vec::<&str>::new(), "{path}");
    }
}
