//! The commands of README.md and docs/, block by block as they stand there, with a real guest `web`.

use anyhow::{Context, Result, bail, ensure};
use manor_tests::documents::{self, Block};
use manor_tests::firmware;

use crate::rig::{Daemon, Xml};

/// A page, and what its commands rest on.
struct Page {
    file: &'static str,
    /// What is done before the line that begins so: what the reader has, or does beside it.
    before: &'static [(&'static str, &'static str)],
    /// Lines that begin so are not run here, and why.
    left_out: &'static [(&'static str, &'static str)],
}

/// Until its guest has an address.
const WEB: &str = "manor define ../web.xml; manor start web
    for try in $(seq 90); do ! manor domifaddr web | grep -q ipv4 || break; sleep 1; done";

/// The guest's interface, in another network.
const ELSEWHERE: &str =
    "printf \"<network><name>lab</name><ip address='10.77.0.1' prefix='24'/></network>\" >lab.xml
    manor net-create lab.xml
    sed -n '/<interface/,/<.interface>/p' web.xml |
        sed \"s/<source network='default'[^>]*>/<source network='lab'\\/>/\" >interface.xml";

/// In this order: each finds what the one before has left.
const PAGES: [Page; 13] = [
    Page { file: "docs/storage.md", before: &[], left_out: &[] },
    Page {
        file: "docs/cloud-init.md",
        before: &[("cat >user-data.yaml", "manor net-start default; cp ../web.xml .")],
        left_out: &[],
    },
    Page {
        file: "docs/networks.md",
        before: &[
            ("manor net-start", "manor destroy web; manor undefine web; manor net-destroy default"),
            ("manor domifaddr", WEB),
            ("manor update-device", ELSEWHERE),
        ],
        left_out: &[],
    },
    Page {
        file: "docs/display.md",
        before: &[],
        left_out: &[
            ("vncviewer", "a viewer of its own"),
            (
                "manor send-key",
                "this guest has no driver for a keyboard; tests/cli/display.rs types",
            ),
        ],
    },
    Page { file: "docs/tuning.md", before: &[], left_out: &[] },
    Page { file: "docs/cli.md", before: &[], left_out: &[] },
    Page {
        file: "docs/disks.md",
        before: &[
            ("manor attach-device", "cp ../disk.xml ."),
            (
                "manor attach-disk",
                "truncate -s 1M /srv/iso/tools.iso; manor image create -f qcow2 /srv/images/data.qcow2 1G",
            ),
        ],
        left_out: &[],
    },
    Page {
        file: "docs/block-jobs.md",
        before: &[],
        left_out: &[
            (
                "manor blockcopy web vda /srv/images/new.qcow2",
                "pages that follow have the guest with its own image; tests/cli/block_jobs.rs pivots",
            ),
            ("manor blockcommit", "its disk lies on no other; tests/cli/block_jobs.rs commits"),
            ("manor blockpull", "its disk lies on no other; tests/cli/block_jobs.rs pulls"),
            ("manor blockjob", "there is none; tests/cli/block_jobs.rs looks at some"),
        ],
    },
    Page {
        file: "docs/guests.md",
        before: &[
            ("manor plan", "sed -i 's/<vcpu.*vcpu>/<vcpu>2<\\/vcpu>/' web.xml"),
            (
                "manor autostart database --order",
                "for name in database batch; do
                     sed \"s/<name>web/<name>$name/\" ../web.xml >$name.xml; manor define $name.xml
                 done",
            ),
        ],
        left_out: &[],
    },
    Page {
        file: "docs/backup.md",
        before: &[],
        left_out: &[(
            "nbdcopy",
            "the testbed has none; tests/cli/backup.rs reads exports by qemu-img",
        )],
    },
    Page {
        file: "docs/snapshots.md",
        before: &[("manor clone", "manor destroy web")],
        left_out: &[],
    },
    Page {
        file: "docs/access.md",
        before: &[("manor user set", "echo sesame > alice.password")],
        left_out: &[
            ("manor -c", "another host"),
            ("curl", "another host"),
            ("openssl", "the testbed has none"),
            ("  -", "of openssl's line"),
        ],
    },
    Page {
        file: "docs/images.md",
        before: &[
            (
                "manor image info",
                "manor image create -f qcow2 base.qcow2 1G; \
                 manor image create -f qcow2 -b base.qcow2 -F qcow2 disk.qcow2",
            ),
            ("manor image create -f qcow2 disk.qcow2", "rm disk.qcow2"),
        ],
        left_out: &[],
    },
];

/// Begun on a host of its own, with nothing defined.
const README: Page = Page {
    file: "README.md",
    before: &[(
        "manor net-start",
        "mkdir -p resources/examples; cp ../example.xml resources/examples/web.xml",
    )],
    left_out: &[
        ("cargo", "building is what the tests do before they begin"),
        ("sudo", "manor setup has tests of its own, and the testbed no sudo"),
        ("manor console", "sits at the guest until ^]"),
    ],
};

/// What all documents take for granted: images, and `MANOR_URI` instead of a daemon in the usual place.
const BEGIN: &str = "mkdir -p work /srv/images /srv/iso
    export MANOR_URI=$PWD/api.sock
    cd work
    printf '#cloud-config\\n' >user-data.yaml
    test -f debian-13-genericcloud-amd64.qcow2 ||
        manor image create -f qcow2 debian-13-genericcloud-amd64.qcow2 16M >/dev/null";

/// The block as a script that ends at the first command that fails.
fn script(page: &Page, block: &Block) -> Result<(String, usize)> {
    let (mut script, mut run) = (String::new(), 0);
    for line in &block.lines {
        if let Some((_, why)) = page.left_out.iter().find(|(begin, _)| line.starts_with(begin)) {
            println!("{}: not run: {line} ({why})", page.file);
            continue;
        }
        if let Some((_, before)) = page.before.iter().find(|(begin, _)| line.starts_with(begin)) {
            script.push_str(before);
            script.push('\n');
        }
        run += usize::from(line.starts_with("manor "));
        script.push_str(line);
        script.push('\n');
    }
    Ok((script, run))
}

/// What it printed.
fn play(daemon: &Daemon, page: &Page) -> Result<String> {
    let (mut said, mut run) = (String::new(), 0);
    for block in documents::blocks(page.file)? {
        let at = format!("{}:{}", page.file, block.line);
        let (script, commands) = script(page, &block)?;
        run += commands;
        daemon.host.write(&format!("{}/block", daemon.dir), script.as_bytes())?;
        let played = daemon.host.sh(&format!("cd {}; {BEGIN}; sh -ex ../block 2>&1", daemon.dir));
        let text = played.with_context(|| format!("{at}:\n{script}"))?;
        println!("{at}:\n{text}");
        said.push_str(&text);
    }
    ensure!(run > 0, "{} shows no command", page.file);
    for (begin, _) in page.before.iter().chain(page.left_out) {
        let blocks = documents::blocks(page.file)?;
        if !blocks.iter().flat_map(|block| &block.lines).any(|line| line.starts_with(begin)) {
            bail!("{}: there is no line {begin:?} any more", page.file);
        }
    }
    Ok(said)
}

/// Whatever a page has left.
fn sweep(daemon: &Daemon) -> Result<()> {
    daemon.host.sh(&format!(
        "export MANOR_URI={}/api.sock
         for name in $(manor list --name); do manor destroy $name; done
         for name in $(manor net-list --name); do manor net-destroy $name; done
         rm -rf /srv/images /srv/iso /srv/backup /var/lib/manor/images {}/work",
        daemon.dir, daemon.dir
    ))?;
    Ok(())
}

#[test]
fn every_page_does_what_it_shows() -> Result<()> {
    let daemon = Daemon::start("documents")?;
    let mut web = Xml::new("web", "manor.dhcp=web manor.end=shell");
    web.devices = "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/>\
        <source pool='default' volume='web.qcow2'/><target dev='vda' bus='virtio'/></disk>\
        <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>\
        <interface type='network'><source network='default'/><model type='virtio'/></interface>\
        <graphics type='vnc' port='-1'/><video><model type='vga'/></video>"
        .into();
    daemon.host.write(&format!("{}/web.xml", daemon.dir), web.text().as_bytes())?;
    let disk = "<disk type='file'><source file='/srv/iso/tools.iso'/><target dev='vdc' bus='virtio'/>\
        <readonly/></disk>";
    daemon.host.write(&format!("{}/disk.xml", daemon.dir), disk.as_bytes())?;
    let played = PAGES.iter().map(|page| play(&daemon, page)).collect::<Result<String>>();
    let swept = sweep(&daemon);
    let seen = played.and_then(|said| {
        ensure!(said.contains("ipv4"), "the guest was given no address: {said}");
        Ok(())
    });
    seen.and(swept)
}

#[test]
fn the_readme_does_what_it_shows() -> Result<()> {
    let daemon = Daemon::start("readme")?;
    daemon.host.put(&firmware::seabios()?, "/usr/share/seabios/bios-256k.bin")?;
    let example = include_str!("../../resources/examples/web.xml");
    daemon.host.write(&format!("{}/example.xml", daemon.dir), example.as_bytes())?;
    let played = play(&daemon, &README);
    let swept = sweep(&daemon);
    played.map(drop).and(swept)
}
