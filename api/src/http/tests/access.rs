//! Every route as every role: what happens is what the table of operations says, and what the
//! documentation says is made from it. `UPDATE_GOLDEN=1` writes that anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use axum::body::Body;
use axum::http::{Request, header};
use management::ops::{OPERATIONS, Reach, Row};
use management::{Access, Caller, Role, Scope};

use super::rig::{Reply, Rig};

const XML: &str = "application/xml";
const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
/// Stands for a definition of the domain in the path, or of the one that a request is about.
const DEFINITION: &str = "{definition}";

/// No domain has it.
const DEVICE: &str = "<disk type='file'><source file='/none'/><target dev='vdx'/></disk>";

/// A route, the operation behind it, and a request that gets as far as that operation, and in the
/// hands of those who may does no harm.
type Door = (&'static str, &'static str, &'static str, &'static str);

/// A route that is added has a row here, or the test fails.
const DOORS: &[Door] = &[
    ("GET /v1/audit", "audit.get", "", ""),
    ("GET /v1/stats", "domain.all-stats", "", ""),
    ("GET /metrics", "domain.all-stats", "", ""),
    (
        "POST /v1/domains/{domain}/guest/agent-command",
        "domain.ask-agent",
        JSON,
        r#"{"command":{"execute":"guest-ping"}}"#,
    ),
    ("POST /v1/domains/{domain}/apply", "domain.apply", XML, DEFINITION),
    ("POST /v1/domains/{domain}/plan", "domain.plan", XML, DEFINITION),
    ("POST /v1/domains/{domain}/devices", "domain.attach-device", XML, DEVICE),
    ("DELETE /v1/domains/{domain}/devices/{device}", "domain.detach-device", "", ""),
    ("POST /v1/domains/{domain}/devices/detach", "domain.detach-device", XML, DEVICE),
    ("PUT /v1/domains/{domain}/devices", "domain.update-device", XML, DEVICE),
    ("POST /v1/domains/{domain}/guest/freeze", "domain.freeze-filesystems", JSON, "{}"),
    ("GET /v1/domains/{domain}/addresses?source=agent", "domain.guest-addresses", "", ""),
    (
        "POST /v1/domains/{domain}/guest/exec",
        "domain.guest-exec",
        JSON,
        r#"{"program":"/bin/true"}"#,
    ),
    ("GET /v1/domains/{domain}/guest/exec/{pid}", "domain.guest-exec-status", "", ""),
    ("GET /v1/domains/{domain}/guest/filesystems", "domain.guest-filesystems", "", ""),
    ("GET /v1/domains/{domain}/guest/hostname", "domain.guest-hostname", "", ""),
    ("GET /v1/domains/{domain}/guest", "domain.guest-info", "", ""),
    ("GET /v1/domains/{domain}/guest/time", "domain.guest-time", "", ""),
    ("PUT /v1/domains/{domain}/guest/time", "domain.set-guest-time", JSON, "{}"),
    (
        "PUT /v1/domains/{domain}/guest/users/{user}/password",
        "domain.set-user-password",
        JSON,
        r#"{"password":"secret"}"#,
    ),
    ("POST /v1/domains/{domain}/guest/thaw", "domain.thaw-filesystems", "", ""),
    ("POST /v1/domains/{domain}/guest/trim", "domain.trim-filesystems", JSON, "{}"),
    ("GET /v1/domains/{domain}/tuning", "domain.tuning", "", ""),
    ("PATCH /v1/domains/{domain}/tuning", "domain.tune", JSON, "{}"),
    (
        "PUT /v1/domains/{domain}/disks/{disk}/medium",
        "domain.change-medium",
        JSON,
        r#"{"action":"eject"}"#,
    ),
    ("POST /v1/domains?transient", "domain.create", XML, DEFINITION),
    ("POST /v1/domains?check", "domain.define", XML, DEFINITION),
    ("POST /v1/domains", "domain.define", XML, DEFINITION),
    ("GET /v1/domains/{domain}", "domain.describe", "", ""),
    ("POST /v1/domains/{domain}/save", "domain.save", JSON, r#"{"file":"/none/web.save"}"#),
    ("POST /v1/domains/{domain}/clone", "domain.clone", JSON, r#"{"name":"a/b"}"#),
    ("POST /v1/domains/{domain}/dump", "domain.dump", JSON, r#"{"file":"/none/web.core"}"#),
    ("POST /v1/domains/{domain}/backup", "domain.backup-begin", JSON, r#"{"xml":"<x/>"}"#),
    ("GET /v1/domains/{domain}/backup", "domain.backup-xml", "", ""),
    ("POST /v1/domains/{domain}/checkpoints", "domain.checkpoint-create", JSON, "{}"),
    ("GET /v1/domains/{domain}/checkpoints", "domain.checkpoint-list", "", ""),
    ("GET /v1/domains/{domain}/checkpoints/{checkpoint}", "domain.checkpoint-xml", "", ""),
    ("DELETE /v1/domains/{domain}/checkpoints/{checkpoint}", "domain.checkpoint-delete", "", ""),
    ("POST /v1/domains/{domain}/managed-save", "domain.managed-save", JSON, "{}"),
    ("DELETE /v1/domains/{domain}/managed-save", "domain.managed-save.drop", "", ""),
    ("PUT /v1/domains/{domain}/managed-save", "domain.managed-save.define", JSON, "{}"),
    ("GET /v1/domains/{domain}/managed-save/xml", "domain.managed-save.xml", "", ""),
    ("POST /v1/saved/restore", "domain.restore", JSON, r#"{"file":"/none/web.save"}"#),
    ("GET /v1/saved/xml?file=/none/web.save", "saved.xml", "", ""),
    ("PUT /v1/saved", "saved.define", JSON, r#"{"file":"/none/web.save"}"#),
    ("POST /v1/saved/check", "saved.check", JSON, r#"{"file":"/none/web.save"}"#),
    ("POST /v1/saved/clone", "saved.clone", JSON, r#"{"file":"/none/web.save","name":"a/b"}"#),
    ("GET /v1/domains/{domain}/snapshots", "domain.snapshot.list", "", ""),
    (
        "POST /v1/domains/{domain}/snapshots",
        "domain.snapshot.create",
        JSON,
        r#"{"xml":"<domainsnapshot/>","quiesce":true}"#,
    ),
    ("PUT /v1/domains/{domain}/snapshots", "domain.snapshot.redefine", JSON, r#"{"xml":"<x/>"}"#),
    ("GET /v1/domains/{domain}/current-snapshot", "domain.snapshot.describe", "", ""),
    ("GET /v1/domains/{domain}/snapshots/{snapshot}", "domain.snapshot.describe", "", ""),
    ("DELETE /v1/domains/{domain}/snapshots/{snapshot}", "domain.snapshot.delete", "", ""),
    ("GET /v1/domains/{domain}/snapshots/{snapshot}/xml", "domain.snapshot.xml", "", ""),
    (
        "GET /v1/domains/{domain}/snapshots/{snapshot}/xml?secure",
        "domain.snapshot.secure-xml",
        "",
        "",
    ),
    ("POST /v1/domains/{domain}/snapshots/{snapshot}/revert", "domain.snapshot.revert", JSON, "{}"),
    ("POST /v1/domains/{domain}/destroy", "domain.destroy", "", ""),
    ("GET /v1/domains/{domain}/xml?secure", "domain.dump-secure-xml", "", ""),
    ("GET /v1/domains/{domain}/xml", "domain.dump-xml", "", ""),
    ("GET /v1/domains/{domain}/addresses", "domain.leased-addresses", "", ""),
    ("GET /v1/domains", "domain.list", "", ""),
    ("GET /v1/domains/{domain}/disks", "domain.list-disks", "", ""),
    ("GET /v1/domains/{domain}/interfaces", "domain.list-interfaces", "", ""),
    ("GET /v1/domains/{domain}/console", "domain.open-console", "", ""),
    ("GET /v1/domains/{domain}/vnc", "domain.open-viewer", "", ""),
    ("POST /v1/domains/{domain}/reboot", "domain.reboot", "", ""),
    ("PUT /v1/domains/{domain}", "domain.redefine", XML, DEFINITION),
    ("POST /v1/domains/{domain}/rename", "domain.rename", JSON, r#"{"name":"{domain}"}"#),
    ("POST /v1/domains/{domain}/reset", "domain.reset", "", ""),
    (
        "PUT /v1/domains/{domain}/disks/{disk}/size",
        "domain.resize-disk",
        JSON,
        r#"{"bytes":1048576}"#,
    ),
    (
        "PUT /v1/domains/{domain}/disks/{disk}/threshold",
        "domain.set-block-threshold",
        JSON,
        r#"{"bytes":1048576}"#,
    ),
    ("GET /v1/domains/{domain}/block-jobs", "domain.list-block-jobs", "", ""),
    (
        "POST /v1/domains/{domain}/disks/{disk}/block-job",
        "domain.start-block-job",
        JSON,
        r#"{"kind":"pull"}"#,
    ),
    (
        "PUT /v1/domains/{domain}/disks/{disk}/block-job",
        "domain.limit-block-job",
        JSON,
        r#"{"bandwidth_bytes":0}"#,
    ),
    ("DELETE /v1/domains/{domain}/disks/{disk}/block-job", "domain.end-block-job", "", ""),
    ("POST /v1/domains/{domain}/resume", "domain.resume", "", ""),
    ("GET /v1/domains/{domain}/screenshot", "domain.screenshot", "", ""),
    ("GET /v1/domains/{domain}/disks/{disk}/size", "domain.describe-disk", "", ""),
    ("GET /v1/domains/{domain}/security", "domain.security", "", ""),
    ("POST /v1/domains/{domain}/send-keys", "domain.send-keys", JSON, r#"{"keys":["KEY_A"]}"#),
    ("PUT /v1/domains/{domain}/autostart", "domain.set-autostart", JSON, r#"{"enabled":false}"#),
    (
        "PUT /v1/domains/{domain}/interfaces/{interface}/link",
        "domain.set-link",
        JSON,
        r#"{"state":"up"}"#,
    ),
    ("PUT /v1/domains/{domain}/memory", "domain.set-memory", JSON, r#"{"bytes":67108864}"#),
    (
        "PUT /v1/domains/{domain}/memory/stats-period",
        "domain.set-memory-stats-period",
        JSON,
        r#"{"period_s":1}"#,
    ),
    ("GET /v1/domains/{domain}/disks/{disk}/peek?offset=0&length=1", "domain.peek-disk", "", ""),
    (
        "POST /v1/domains/{domain}/memory/dirty-rate",
        "domain.measure-dirty-rate",
        JSON,
        r#"{"seconds":1}"#,
    ),
    ("GET /v1/domains/{domain}/memory/peek?address=0&length=1", "domain.peek-memory", "", ""),
    ("PUT /v1/domains/{domain}/iothreads/{iothread}", "domain.change-io-thread", "", ""),
    ("DELETE /v1/domains/{domain}/iothreads/{iothread}", "domain.change-io-thread", "", ""),
    ("GET /v1/domains/{domain}/metadata", "domain.metadata", "", ""),
    ("PATCH /v1/domains/{domain}/metadata", "domain.set-metadata", JSON, r#"{"title":"a"}"#),
    ("POST /v1/domains/{domain}/nmi", "domain.inject-nmi", "", ""),
    (
        "PUT /v1/domains/{domain}/lifecycle-action",
        "domain.set-lifecycle-action",
        JSON,
        r#"{"event":"crash","action":"restart"}"#,
    ),
    ("GET /v1/domains/{domain}/guest/vcpus", "domain.guest-vcpus", "", ""),
    (
        "PUT /v1/domains/{domain}/guest/vcpus",
        "domain.set-guest-vcpus",
        JSON,
        r#"{"vcpus":[1],"online":true}"#,
    ),
    ("PUT /v1/domains/{domain}/vcpus", "domain.set-vcpus", JSON, r#"{"vcpus":[1],"enabled":true}"#),
    (
        "PUT /v1/domains/{domain}/guest/timeout",
        "domain.set-agent-timeout",
        JSON,
        r#"{"seconds":5}"#,
    ),
    ("GET /v1/domains/{domain}/addresses?source=arp", "domain.neighbour-addresses", "", ""),
    ("GET /v1/domains/{domain}/guest/users/{user}/ssh-keys", "domain.ssh-keys", "", ""),
    (
        "PUT /v1/domains/{domain}/guest/users/{user}/ssh-keys",
        "domain.set-ssh-keys",
        JSON,
        r#"{"keys":["a"],"mode":"append"}"#,
    ),
    ("POST /v1/domains/{domain}/guest/sleep", "domain.suspend-guest", "", ""),
    ("POST /v1/domains/{domain}/shutdown", "domain.shutdown", "", ""),
    ("POST /v1/domains/{domain}/start", "domain.start", "", ""),
    ("GET /v1/domains/{domain}/state", "domain.state", "", ""),
    ("GET /v1/domains/{domain}/stats", "domain.stats", "", ""),
    ("POST /v1/domains/{domain}/suspend", "domain.suspend", "", ""),
    ("DELETE /v1/domains/{domain}", "domain.undefine", "", ""),
    ("GET /v1/events", "events.subscribe", "", ""),
    ("DELETE /v1/jobs/{job}", "job.abort", "", ""),
    ("GET /v1/jobs/{job}", "job.get", "", ""),
    ("GET /v1/jobs", "job.list", "", ""),
    ("POST /v1/networks/{network}/start", "network.change", "", ""),
    ("POST /v1/networks/{network}/stop", "network.change", "", ""),
    ("DELETE /v1/networks/{network}", "network.change", "", ""),
    ("PUT /v1/networks/{network}/autostart", "network.change", JSON, r#"{"enabled":true}"#),
    ("POST /v1/networks?transient", "network.create", XML, "<network/>"),
    ("POST /v1/networks", "network.define", XML, "<network/>"),
    ("GET /v1/networks/{network}", "network.describe", "", ""),
    ("GET /v1/networks/{network}/xml", "network.dump-xml", "", ""),
    ("GET /v1/networks/{network}/leases", "network.leases", "", ""),
    ("GET /v1/networks", "network.list", "", ""),
    ("GET /v1/networks/{network}/ports/{port}/xml", "network.port-xml", "", ""),
    ("GET /v1/networks/{network}/ports", "network.ports", "", ""),
    (
        "POST /v1/networks/{network}/update",
        "network.update",
        JSON,
        r#"{"command":"add","section":"dns-host","xml":"<host/>"}"#,
    ),
    ("GET /v1/node/capabilities", "node.capabilities", "", ""),
    ("GET /v1/node/domain-capabilities", "node.domain-capabilities", "", ""),
    ("GET /v1/node", "node.get", "", ""),
    ("GET /v1/node/devices", "node.watch-devices", "", ""),
    ("GET /v1/node/devices/{device}", "node.device", "", ""),
    ("GET /v1/node/interfaces", "node.interfaces", "", ""),
    ("GET /v1/filters", "network.filters", "", ""),
    ("POST /v1/filters", "network.define-filter", XML, "<filter/>"),
    ("GET /v1/filters/{filter}", "network.filter", "", ""),
    ("DELETE /v1/filters/{filter}", "network.undefine-filter", "", ""),
    ("GET /v1/filter-bindings", "network.filter-bindings", "", ""),
    ("GET /v1/filter-bindings/{device}", "network.filter-binding", "", ""),
    ("POST /v1/node/huge-pages", "node.allocate-pages", JSON, r#"{"size_bytes":0,"count":0}"#),
    ("POST /v1/node/cpu/baseline", "node.baseline-cpu", JSON, r#"{"cpus":[]}"#),
    ("GET /v1/node/cells", "node.cells", "", ""),
    ("POST /v1/node/cpu/compare", "node.compare-cpu", XML, "<cpu/>"),
    ("GET /v1/node/cpus/{cpu}", "node.cpu-counters", "", ""),
    ("GET /v1/node/shared-memory", "node.shared-memory", "", ""),
    ("GET /v1/node/sysinfo", "node.sysinfo", "", ""),
    ("PATCH /v1/node/shared-memory", "node.tune-shared-memory", JSON, "{}"),
    ("GET /v1/node/pool-capabilities", "pool.capabilities", "", ""),
    ("GET /v1/node/pool-sources/{kind}", "pool.sources", "", ""),
    ("POST /v1/pools/{pool}/build", "pool.change", "", ""),
    ("POST /v1/pools/{pool}/start", "pool.change", "", ""),
    ("POST /v1/pools/{pool}/refresh", "pool.change", "", ""),
    ("POST /v1/pools/{pool}/stop", "pool.change", "", ""),
    ("POST /v1/pools/{pool}/delete", "pool.change", "", ""),
    ("DELETE /v1/pools/{pool}", "pool.change", "", ""),
    ("PUT /v1/pools/{pool}/autostart", "pool.change", JSON, r#"{"enabled":true}"#),
    ("POST /v1/pools?transient", "pool.create", XML, "<pool/>"),
    ("POST /v1/pools", "pool.define", XML, "<pool/>"),
    ("GET /v1/pools/{pool}", "pool.describe", "", ""),
    ("GET /v1/pools/{pool}/xml", "pool.dump-xml", "", ""),
    ("GET /v1/pools", "pool.list", "", ""),
    ("POST /v1/tokens", "token.create", JSON, r#"{"name":"","role":"reader"}"#),
    ("GET /v1/tokens", "token.list", "", ""),
    ("DELETE /v1/tokens/{token}", "token.revoke", "", ""),
    ("GET /v1/users", "user.list", "", ""),
    ("DELETE /v1/users/{name}", "user.remove", "", ""),
    ("PUT /v1/users/{name}", "user.set", JSON, r#"{"password":"","role":"reader"}"#),
    ("POST /v1/pools/{pool}/volumes/{volume}/clone", "volume.clone", JSON, r#"{"name":"copy"}"#),
    ("POST /v1/pools/{pool}/volumes", "volume.create", XML, "<volume/>"),
    ("DELETE /v1/pools/{pool}/volumes/{volume}", "volume.delete", "", ""),
    ("GET /v1/pools/{pool}/volumes/{volume}", "volume.describe", "", ""),
    ("GET /v1/pools/{pool}/volumes/{volume}/xml", "volume.describe", "", ""),
    ("GET /v1/pools/{pool}/volumes/{volume}/content", "volume.download", "", ""),
    ("GET /v1/volumes?path=/x", "volume.find", "", ""),
    ("GET /v1/images/users?path=/x", "image.users", "", ""),
    ("POST /v1/import/plan", "import.plan", JSON, r#"{"root":"/none","documents":[]}"#),
    ("POST /v1/import/apply", "import.apply", JSON, r#"{"root":"/none","documents":[]}"#),
    ("GET /v1/pools/{pool}/volumes", "volume.list", "", ""),
    (
        "POST /v1/pools/{pool}/volumes/{volume}/resize",
        "volume.resize",
        JSON,
        r#"{"capacity_bytes":1048576}"#,
    ),
    ("PUT /v1/pools/{pool}/volumes/{volume}/content", "volume.upload", BYTES, "x"),
    ("POST /v1/pools/{pool}/volumes/{volume}/wipe", "volume.wipe", "", ""),
];

/// Behind them is no operation: they tell nothing of this node.
const OPEN: &[&str] = &["GET /openapi.json"];

/// Nothing is called so.
const NAMES: &[(&str, &str)] = &[
    ("{checkpoint}", "none"),
    ("{cpu}", "99999"),
    ("{device}", "vdx"),
    ("{disk}", "vdx"),
    ("{interface}", "vnetx"),
    ("{iothread}", "1"),
    ("{kind}", "logical"),
    ("{job}", "00000000-0000-0000-0000-000000000001"),
    ("{name}", "nobody"),
    ("{network}", "nowhere"),
    ("{port}", "00000000-0000-0000-0000-000000000007"),
    ("{pid}", "1"),
    ("{pool}", "nowhere"),
    ("{token}", "nobody"),
    ("{user}", "nobody"),
    ("{volume}", "nothing"),
];

const MINE: (&str, &str) = ("mine", "11111111-2222-3333-4444-555555555555");
const OTHER: (&str, &str) = ("other", "21111111-2222-3333-4444-555555555555");

fn definition((name, uuid): (&str, &str)) -> String {
    format!(
        "<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory>\
         <os><type>hvm</type><kernel>/nonexistent/vmlinuz</kernel></os></domain>"
    )
}

/// With names for what stands in braces.
fn fill(text: &str, domain: (&str, &str)) -> String {
    let text = text.replace(DEFINITION, &definition(domain)).replace("{domain}", domain.0);
    NAMES.iter().fold(text, |text, (name, value)| text.replace(name, value))
}

/// The requests of all doors as they go over a socket.
pub(super) fn raw_requests() -> Vec<Vec<u8>> {
    let raw = |(line, _, kind, body): &Door| {
        let (line, body) = (fill(line, MINE), fill(body, MINE));
        let kind =
            if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let length = body.len();
        let head =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{kind}\r\n");
        (head + &body).into_bytes()
    };
    DOORS.iter().map(raw).collect()
}

/// The request of a door, about this domain.
fn request((line, _, kind, body): &Door, domain: (&str, &str)) -> Request<Body> {
    let fill = |text: &str| fill(text, domain);
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(fill(path));
    if !kind.is_empty() {
        request = request.header(header::CONTENT_TYPE, *kind);
    }
    for (name, value) in [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_VERSION, "13"),
        (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
    ] {
        request = request.header(name, value);
    }
    let mut request = request.body(Body::from(fill(body))).unwrap();
    // As if there were a connection that could become a WebSocket.
    let upgrade = hyper::upgrade::on(Request::new(Body::empty()));
    request.extensions_mut().insert(upgrade);
    request
}

fn row(operation: &str) -> Row {
    let found = OPERATIONS.iter().find(|row| row.operation == operation);
    *found.unwrap_or_else(|| panic!("there is no operation {operation}"))
}

/// Both domains as they were, whatever was done to them.
async fn define_both(rig: &Rig) {
    for domain in [MINE, OTHER] {
        let reply = rig.call("POST /v1/domains", XML, definition(domain)).await;
        assert!(reply.status.is_success(), "{}", reply.text);
    }
}

fn is_denied(reply: &Reply, door: &Door) -> bool {
    let (line, ..) = door;
    // Whatever else may be wrong: it got as far as the operation.
    for status in [400, 401, 404, 405, 413, 415, 426] {
        let is_early = reply.status == status
            && ["bad-request", "no-such-route", "unsupported-media-type", "upgrade-required"]
                .contains(&reply.code().as_str());
        assert!(!is_early, "{line}: {}", reply.text);
    }
    let denied = reply.status == 403;
    if denied {
        assert_eq!(reply.code(), "denied", "{line}");
    }
    denied
}

#[tokio::test]
async fn every_route_has_its_row() {
    let document = Rig::new().await.get("/openapi.json").await.json();
    let described: BTreeSet<_> = super::openapi::operations(&document)
        .into_iter()
        .map(|(line, _)| line)
        .filter(|line| !OPEN.contains(&line.as_str()))
        .collect();
    let route = |line: &str| line.split('?').next().unwrap_or_default().to_owned();
    let listed: BTreeSet<_> = DOORS.iter().map(|(line, ..)| route(line)).collect();
    assert_eq!(listed, described);
}

#[tokio::test]
async fn every_role_gets_through_the_doors_that_the_table_opens_to_it_and_no_others() {
    let rig = Rig::new().await;
    define_both(&rig).await;
    let classes = Access::ALL.into_iter().chain(Role::ALL.into_iter().map(Role::access));
    for class in classes.collect::<BTreeSet<_>>() {
        for door in DOORS {
            define_both(&rig).await;
            let caller = Caller::new("tried", class);
            let reply = rig.send_as(request(door, MINE), caller).await;
            let expected = class < row(door.1).access;
            assert_eq!(
                is_denied(&reply, door),
                expected,
                "{} as {class:?}: {}",
                door.0,
                reply.text
            );
        }
    }
}

#[tokio::test]
async fn confined_callers_get_through_the_doors_of_their_domains_alone() {
    let rig = Rig::new().await;
    for door in DOORS {
        let reach = row(door.1).reach;
        for (domain, is_denied_here) in
            [(MINE, reach == Reach::Node), (OTHER, reach != Reach::Domains)]
        {
            define_both(&rig).await;
            let caller = Caller::new("tried", Access::Admin).scoped(Some(Scope::new([MINE.0])));
            let reply = rig.send_as(request(door, domain), caller).await;
            let shown = format!("{} about {}: {}", door.0, domain.0, reply.text);
            assert_eq!(is_denied(&reply, door), is_denied_here, "{shown}");
            assert!(!reply.text.contains(OTHER.1) || domain == OTHER, "{shown}");
        }
    }
}

/// The audit log tells which operation it was that was refused.
#[tokio::test]
async fn behind_every_door_is_the_operation_of_its_row() {
    let doors: Vec<_> = DOORS.iter().filter(|door| row(door.1).reach != Reach::Domains).collect();
    // The log of one daemon takes only so many refusals at once.
    for doors in doors.chunks(50) {
        let rig = Rig::new().await;
        define_both(&rig).await;
        for door in doors {
            let caller = Caller::new("tried", Access::Admin).scoped(Some(Scope::new(["nobody"])));
            let reply = rig.send_as(request(door, MINE), caller).await;
            assert!(is_denied(&reply, door), "{}", door.0);
            let log = rig.get("/v1/audit?limit=1").await.json();
            assert_eq!(log["records"][0]["operation"], door.1, "{}", door.0);
        }
    }
}

#[test]
fn the_documentation_has_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/access.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- operations: written by a test -->\n", "<!-- end of operations -->\n");
    let (before, rest) = text.split_once(begin).expect("the beginning is marked");
    let (_, after) = rest.split_once(end).expect("the end is marked");
    let expected = format!("{before}{begin}{}{end}{after}", table());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, expected).unwrap();
    } else {
        assert!(
            text == expected,
            "docs/access.md is stale; UPDATE_GOLDEN=1 cargo test -p manor-api"
        );
    }
}

fn table() -> String {
    let mut out = String::from(
        "| operation | class | roles | confined callers | requests |\n|---|---|---|---|---|\n",
    );
    for Row { operation, access, reach } in OPERATIONS {
        let roles = Role::ALL.into_iter().filter(|role| role.access() >= *access);
        let roles: Vec<_> = roles.map(Role::name).collect();
        let confined = match reach {
            Reach::Domain => "their domains",
            Reach::Domains => "see their part",
            Reach::Node => "–",
        };
        let doors = DOORS.iter().filter(|door| door.1 == *operation);
        let doors: Vec<_> = doors.map(|door| format!("`{}`", door.0)).collect();
        let (roles, doors) = (roles.join(", "), doors.join("<br>"));
        let _ =
            writeln!(out, "| `{operation}` | {} | {roles} | {confined} | {doors} |", access.name());
    }
    out
}
