//! A guest that prints ticks, saved, restored and cloned; QEMU's is migrated to a file and back, as
//! libvirt does it. Both are commanded by a shell inside, so the start of a client counts.

use anyhow::Context;
use manor_tests::{Testbed, Xml};

use super::vmm::Guest;
use super::{GUEST_MIB, INITRD, KERNEL, LIMIT, Sample, Vmm};

pub(super) const VMMS: [Vmm; 2] = [Vmm::Manor, Vmm::Q35];
const WORDS: &str = "manor.tick=20";
const DIR: &str = "/bench/state";
const MONITOR: u16 = 4444;

/// What both scripts need: hundredths of a second, and a guest's output that grows.
const TOOLS: &str = "
now() { cut -d' ' -f1 /proc/uptime | tr -d .; }
size() { stat -c %s \"$1\" 2>/dev/null || echo 0; }
grown() { i=0; while [ $(size \"$1\") -le $2 ]; do
    i=$((i+1)); [ $i -lt 10000 ] || exit 1; usleep 10000; done; }
up() { until grep -q 'MANOR-TICK 5' \"$1\" 2>/dev/null; do usleep 100000; done; }
";

pub(super) fn measure(vmm: Vmm, host: &Testbed) -> anyhow::Result<Sample> {
    let script = match vmm {
        Vmm::Manor => manor(host)?,
        _ => qemu(host)?,
    };
    let script = format!("{TOOLS}{script}");
    let text = host.command(&["/bin/sh", "-euc", &script]).timeout(LIMIT).output()?.success()?;
    let words = text.lines().filter_map(|line| line.split_once(' '));
    let known = ["save", "running", "output", "clone", "kib"];
    words
        .filter(|(name, _)| known.contains(name))
        .map(|(name, value)| {
            let value = value.trim().parse().with_context(|| format!("{name} is {value:?}"))?;
            Ok((name.to_owned(), value))
        })
        .collect()
}

fn manor(host: &Testbed) -> anyhow::Result<String> {
    host.sh(&format!("rm -rf {DIR}; mkdir -p {DIR}"))?;
    let config = format!(
        "state_dir = \"{DIR}/state\"\nrun_dir = \"{DIR}/run\"\nlog_dir = \"{DIR}/log\"\n\
         [api]\nsocket = \"{DIR}/api.sock\"\nsocket_group = \"\"\nread_only_socket = \"\"\n"
    );
    host.write(&format!("{DIR}/manor.toml"), config.as_bytes())?;
    let mut xml = Xml::new("bench-state", WORDS);
    (xml.kernel, xml.initrd) = (KERNEL.into(), INITRD.into());
    xml.memory_mib = GUEST_MIB;
    let source = format!("<source path='{DIR}/out' append='on'/>");
    let text = xml.text();
    let console = format!("<serial type='file'>{source}<target port='0'/></serial></devices>");
    let text = without_console(&text).replace("</devices>", &console);
    host.write(&format!("{DIR}/guest.xml"), text.as_bytes())?;
    Ok(format!(
        "manor daemon --config {DIR}/manor.toml >{DIR}/log.txt 2>&1 </dev/null &
         daemon=$!
         trap 'm destroy bench-state >/dev/null 2>&1; m destroy twin >/dev/null 2>&1; kill $daemon' EXIT
         m() {{ manor --connect {DIR}/api.sock \"$@\"; }}
         until m list >/dev/null 2>&1; do usleep 100000; done
         m define {DIR}/guest.xml >/dev/null
         m start bench-state >/dev/null
         up {DIR}/out
         a=$(now); m save bench-state {DIR}/saved >/dev/null; echo save $(($(now)-a))
         echo kib $(du -k {DIR}/saved | cut -f1)
         s=$(size {DIR}/out)
         a=$(now); m restore {DIR}/saved >/dev/null; echo running $(($(now)-a))
         grown {DIR}/out $s; echo output $(($(now)-a))
         a=$(now); m clone bench-state twin >/dev/null; echo clone $(($(now)-a))
         m domstate twin | grep -q running"
    ))
}

/// The console that a test speaks to is a file here.
fn without_console(text: &str) -> String {
    let mut text = text.to_owned();
    for (begin, end) in [("<serial", "</serial>"), ("<console", "</console>")] {
        if let (Some(from), Some(to)) = (text.find(begin), text.find(end)) {
            text.replace_range(from..to + end.len(), "");
        }
    }
    text
}

fn qemu(host: &Testbed) -> anyhow::Result<String> {
    host.sh(&format!("rm -rf {DIR}; mkdir -p {DIR}"))?;
    let guest = Guest { words: WORDS.into(), disk: false, net: false };
    let mut command = Vmm::Q35.command(host, &guest, 0)?;
    for word in command.iter_mut().filter(|word| *word == "stdio") {
        *word = "chardev:out".into();
    }
    let chardev = format!("file,id=out,path={DIR}/out,append=on");
    let monitor = format!("tcp:127.0.0.1:{MONITOR},server=on,wait=off");
    command.extend(["-chardev", &chardev, "-monitor", &monitor].map(str::to_owned));
    let words: Vec<_> = command.iter().map(|word| format!("'{word}'")).collect();
    let qemu = words.join(" ");
    Ok(format!(
        "trap 'kill $qemu 2>/dev/null || true' EXIT
         {qemu} >{DIR}/log.txt 2>&1 </dev/null &
         qemu=$!
         up {DIR}/out
         a=$(now)
         printf '%s\\n' 'migrate_set_parameter max-bandwidth 100G' stop \\
             'migrate \"exec:cat >{DIR}/saved\"' quit |
             nc 127.0.0.1 {MONITOR} >{DIR}/monitor 2>&1 || true
         while kill -0 $qemu 2>/dev/null; do usleep 10000; done
         echo save $(($(now)-a))
         echo kib $(du -k {DIR}/saved | cut -f1)
         s=$(size {DIR}/out)
         a=$(now)
         {qemu} -incoming 'exec:cat {DIR}/saved' >>{DIR}/log.txt 2>&1 </dev/null &
         qemu=$!
         until grep -q ':{MONITOR:04X} 00000000:0000 0A' /proc/net/tcp; do usleep 10000; done
         (until [ -e {DIR}/done ]; do echo cont; echo info status; usleep 20000; done) |
             nc 127.0.0.1 {MONITOR} 2>/dev/null | grep -q -m 1 'status: running' || true
         echo running $(($(now)-a))
         touch {DIR}/done
         grown {DIR}/out $s; echo output $(($(now)-a))"
    ))
}
