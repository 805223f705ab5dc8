//! Bad input, bad luck: every refusal names the thing and the cause, and leaves nothing behind.

use anyhow::{Context, Result, ensure};
use manor_tests::http::Reply;

use crate::rig::{Daemon, Xml, host, refused};

/// Defined, and refused at its start: with these words, and nothing half-created.
fn start_fails(daemon: &Daemon, xml: &Xml, words: &[&str]) -> Result<()> {
    daemon.define(xml)?;
    let name = &xml.name;
    let text = daemon.refused(&format!("start {name}"))?;
    println!("{name}: {}", text.trim_end());
    for word in words {
        ensure!(text.contains(word), "{name}: no {word:?} in {text:?}");
    }
    let state = daemon.api.state(name)?;
    ensure!(state["state"] == "shut-off", "{name} is {state}");
    let left = left_over(daemon, name)?;
    ensure!(left.is_empty(), "{name}: left over: {left}");
    daemon.manor(&format!("undefine {name}"))?;
    Ok(())
}

/// What there is of a domain that does not run. Other tests' guests are none of its business.
fn left_over(daemon: &Daemon, name: &str) -> Result<String> {
    daemon.host.sh(&format!(
        "ls {}/run/domains
         for process in /proc/[0-9]*; do
             test \"$(readlink $process/exe)\" = /usr/bin/manor || continue
             tr '\\0' ' ' <$process/cmdline | grep 'guest={name} ' || true
         done",
        daemon.dir
    ))
}

#[test]
fn what_a_start_needs_and_does_not_find_is_named() -> Result<()> {
    let daemon = Daemon::start("refuse")?;
    daemon.host.sh("head -c 100000 /dev/urandom >/run/e2e/noise; touch /run/e2e/empty
         truncate -s 600M /run/e2e/big; truncate -s 1M /run/e2e/disk.img
         mkdir -p /run/e2e/directory")?;
    let with_kernel = |name: &str, kernel: &str| {
        let mut xml = Xml::new(name, "");
        xml.kernel = kernel.into();
        xml
    };
    start_fails(
        &daemon,
        &with_kernel("no-kernel", "/run/e2e/nowhere"),
        &["kernel /run/e2e/nowhere does not exist"],
    )?;
    start_fails(
        &daemon,
        &with_kernel("noise", "/run/e2e/noise"),
        &["kernel /run/e2e/noise", "neither a bzImage nor an ELF file"],
    )?;
    start_fails(
        &daemon,
        &with_kernel("empty", "/run/e2e/empty"),
        &["kernel /run/e2e/empty", "the file is empty"],
    )?;
    start_fails(
        &daemon,
        &with_kernel("dir", "/run/e2e/directory"),
        &["/run/e2e/directory is a directory"],
    )?;
    let mut big = Xml::new("big-initrd", "");
    big.initrd = "/run/e2e/big".into();
    start_fails(&daemon, &big, &["initrd", "600 MiB do not fit", "128 MiB of guest memory"])?;
    let mut greedy = Xml::new("greedy", "");
    greedy.memory_mib = 1 << 20;
    start_fails(&daemon, &greedy, &["memory of 1048576 MiB is more than", "this host has"])?;
    start_fails(
        &daemon,
        &Xml::new("no-disk", "").disk("/run/e2e/none.img", "vda", ""),
        &["image /run/e2e/none.img does not exist"],
    )?;
    start_fails(
        &daemon,
        &Xml::new("no-bridge", "").bridge("br-none", "52:54:00:00:77:31", ""),
        &["there is no bridge \"br-none\" on this host"],
    )?;
    let mut tapless = Xml::new("no-tap", "");
    tapless.devices = "<interface type='ethernet'><target dev='tap-none' managed='no'/>\
                       <model type='virtio'/></interface>"
        .into();
    start_fails(&daemon, &tapless, &["there is no network interface \"tap-none\""])
}

#[test]
fn a_host_without_kvm_is_named_and_nothing_starts() -> Result<()> {
    let host = host()?;
    host.write("/run/e2e/no-kvm.xml", Xml::new("no-kvm", "").text().as_bytes())?;
    let without = |device: &str| {
        let run = "manor run /run/e2e/no-kvm.xml";
        refused(&host, &format!("unshare -m sh -c 'mount --bind {device} /dev/kvm; {run}'"))
    };
    let text = without("/dev/null")?;
    ensure!(text.contains("/dev/kvm"), "{text}");
    // Gone altogether: an empty /dev with what a process needs.
    let text = refused(
        &host,
        "unshare -m sh -c 'mkdir -p /run/e2e/dev; mount -t tmpfs none /run/e2e/dev
         for f in null zero random urandom ptmx; do cp -a /dev/$f /run/e2e/dev/; done
         mkdir /run/e2e/dev/pts; mount --bind /dev/pts /run/e2e/dev/pts
         mount --move /run/e2e/dev /dev; manor run /run/e2e/no-kvm.xml'",
    )?;
    ensure!(text.contains("/dev/kvm") && text.contains("exist"), "{text}");
    Ok(())
}

#[test]
fn an_image_is_guarded_and_a_second_start_refused() -> Result<()> {
    let daemon = Daemon::start("locks")?;
    daemon.host.sh("truncate -s 1M /run/e2e/locked.img")?;
    let first = Xml::new("lock-a", "manor.hold").disk("/run/e2e/locked.img", "vda", "");
    daemon.define_and_start(&first)?;
    let second = Xml::new("lock-b", "manor.hold").disk("/run/e2e/locked.img", "vda", "");
    daemon.define(&second)?;
    let text = daemon.refused("start lock-b")?;
    ensure!(text.contains("/run/e2e/locked.img") && text.contains("lock-a"), "{text}");
    let text = daemon.refused("start lock-a")?;
    ensure!(text.contains("already active"), "{text}");
    // The holder noticed nothing.
    daemon.await_guest("lock-a")?;
    daemon.post("lock-a", "destroy")?;
    daemon.post("lock-b", "start")?;
    Ok(())
}

#[test]
fn documents_and_requests_with_mistakes_are_refused_with_all_of_them() -> Result<()> {
    let daemon = Daemon::start("documents")?;
    let api = &daemon.api;
    let problem = |reply: Reply, status: u16| -> Result<serde_json::Value> {
        ensure!(reply.status == status, "HTTP {}: {}", reply.status, reply.body);
        reply.json()
    };
    let sent = |xml: &str| api.post_xml("/v1/domains", xml);
    let malformed = problem(sent("<domain type='kvm'>\n  <name>x</nmae>\n</domain>")?, 400)?;
    ensure!(malformed["errors"][0]["line"] == 2, "{malformed}");
    for name in ["a/b", "a\nb", "..", ""] {
        let mut xml = Xml::new("placeholder", "");
        xml.name = name.replace('\n', "&#10;");
        let refused = problem(sent(&xml.text())?, 422)?;
        ensure!(refused["errors"][0]["path"] == "/domain/name", "{name:?}: {refused}");
    }
    let misspelt = Xml::new("misspelt", "").text().replace("vcpu>", "vcppu>");
    let misspelt = misspelt.replace(">hvm<", ">hvmm<");
    let refused = problem(sent(&misspelt)?, 422)?;
    let errors = refused["errors"].as_array().context("no errors")?;
    let meant: Vec<_> = errors.iter().filter_map(|error| error["suggestion"].as_str()).collect();
    ensure!(meant.contains(&"<vcpu>") && meant.contains(&"hvm"), "{refused}");
    let lost = problem(api.get("/v1/domains/nobody")?, 404)?;
    ensure!(lost["type"] == "urn:manor:error:not-found", "{lost}");
    ensure!(lost["detail"].to_string().contains("nobody"), "{lost}");
    let json = api.request(
        "PUT",
        "/v1/domains/nobody/autostart",
        Some(("application/json", "{\"enabled\": yes}")),
    )?;
    problem(json, 400)?;
    let text = daemon.refused("start nobody")?;
    ensure!(text.contains("nobody"), "{text}");
    let list = api.get("/v1/domains")?.success()?.json()?;
    ensure!(list["domains"].as_array().is_some_and(Vec::is_empty), "{list}");
    Ok(())
}

#[test]
fn a_full_disk_refuses_changes_and_loses_nothing() -> Result<()> {
    let host = host()?;
    host.sh("mkdir -p /run/e2e/full/state; mount -t tmpfs -o size=256k none /run/e2e/full/state")?;
    let daemon = Daemon::start_kept("full")?;
    daemon.define_and_start(&Xml::new("full-a", "manor.hold"))?;
    let kept = daemon.manor("dumpxml --inactive full-a")?;
    daemon.host.sh("dd if=/dev/zero of=/run/e2e/full/state/filler bs=4k 2>/dev/null || true")?;
    let long = "x".repeat(8000);
    let mut xml = Xml::new("full-b", "");
    xml.domain = format!("<description>{long}</description>");
    let refused = daemon.api.post_xml("/v1/domains", &xml.text())?;
    ensure!(refused.status == 507 || refused.status == 500, "HTTP {}", refused.status);
    ensure!(refused.body.contains("No space left on device"), "{}", refused.body);
    // What was there is there, runs, and can be stopped and started with a full disk.
    ensure!(daemon.manor("dumpxml --inactive full-a")? == kept);
    ensure!(daemon.api.get("/v1/domains/full-b")?.status == 404, "half defined");
    daemon.post("full-a", "destroy")?;
    daemon.post("full-a", "start").context("a start needs no state directory")?;
    daemon.host.sh("rm /run/e2e/full/state/filler")?;
    daemon.define(&xml)?;
    drop(daemon);
    host.sh("umount -l /run/e2e/full/state")?;
    Ok(())
}

#[test]
fn a_user_without_permission_is_told_so() -> Result<()> {
    let daemon = Daemon::start("permission")?;
    let text = refused(
        &daemon.host,
        &format!(
            "start-stop-daemon -S -n nobody -c 65534:65534 -a /usr/bin/manor -- \
             --connect {}/api.sock list",
            daemon.dir
        ),
    )?;
    ensure!(text.contains("Permission denied"), "{text}");
    Ok(())
}
