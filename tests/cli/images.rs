//! `manor image`, beside qemu-img.

use manor_tests::qemu::{ImageTools, image_tools};

use crate::guests;
use crate::rig::{Outcome, Rig};

struct Images {
    rig: Rig,
    tools: ImageTools,
}

impl Images {
    fn new() -> Self {
        Self { rig: Rig::without_daemon(), tools: image_tools().unwrap() }
    }

    fn manor(&self, line: &str) -> Outcome {
        self.rig.manor(["image"].into_iter().chain(line.split_whitespace()))
    }

    fn done(&self, line: &str) -> String {
        let outcome = self.manor(line);
        assert_eq!(outcome.status, 0, "image {line}: {}", outcome.err);
        outcome.out
    }

    fn refused(&self, line: &str) -> String {
        let outcome = self.manor(line);
        assert_ne!(outcome.status, 0, "image {line}: {}", outcome.out);
        outcome.err
    }

    fn qemu_img(&self, line: &str) -> String {
        let result = self.try_qemu_img(line);
        assert!(result.is_ok(), "qemu-img {line}: {}", result.unwrap_err());
        result.unwrap()
    }

    fn try_qemu_img(&self, line: &str) -> Result<String, String> {
        let mut command = self.tools.img.command();
        command.args(line.split_whitespace()).current_dir(self.rig.directory.path());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(text) } else { Err(format!("{text}{errors}")) }
    }

    /// qemu-img measures how fast this machine derives keys, and gives up when the processor time
    /// of its thread has not moved meanwhile, which kernels that count in ticks let happen.
    fn encrypt(&self, name: &str) {
        let object = "--object secret,id=s,file=key";
        let luks = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
        let line = format!("create -q {object} -f qcow2 -o {luks} {name} 1M");
        let mut tries = 0..50;
        while let Err(error) = self.try_qemu_img(&line) {
            let idle = error.contains("Unable to get accurate CPU usage");
            assert!(idle && tries.next().is_some(), "qemu-img {line}: {error}");
        }
    }

    /// A raw disk with something at its start, middle and end.
    fn disk(&self, name: &str) {
        let mut disk = vec![0_u8; 20 << 20];
        for start in [0, 9_000_000, (20 << 20) - 70_000] {
            disk[start..start + 70_000].fill(start as u8 | 1);
        }
        self.rig.write(name, disk);
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.rig.directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "manor.toml");
        names.sort();
        names
    }
}

#[test]
fn a_disk_goes_into_qcow2_and_back() {
    let images = Images::new();
    images.disk("raw");
    for options in ["compat=0.10", "extended_l2=on,cluster_size=128k", "refcount_bits=1"] {
        images.done(&format!("convert -f raw -O qcow2 -o {options} raw disk"));
        images.qemu_img("check -q disk");
        images.qemu_img("compare -q -f raw -F qcow2 raw disk");
        images.done("convert -f qcow2 -O raw disk back");
        images.qemu_img("compare -q -f raw -F raw raw back");
        let blocks = |name: &str| {
            use std::os::unix::fs::MetadataExt as _;
            std::fs::metadata(images.rig.path(name)).unwrap().blocks() * 512
        };
        assert!(blocks("disk") < 2 << 20 && blocks("back") < 2 << 20, "holes stay holes");
    }
}

#[test]
fn snapshots_lie_in_the_image_and_are_qemu_img_s_too() {
    let images = Images::new();
    images.disk("raw");
    images.done("convert -f raw -O qcow2 raw disk");
    assert_eq!(images.done("snapshot list disk"), "");
    let said = images.done("snapshot create disk before");
    assert_eq!(said, "Created snapshot before (ID 1) of disk\n");
    images.qemu_img("snapshot -c after disk");
    let list = images.done("snapshot list disk");
    assert!(list.contains("ID       TAG ") && list.contains("1        before "), "{list}");
    assert!(list.contains("2        after "), "{list}");
    assert!(images.done("info disk").contains("Snapshot list:\nID       TAG"));
    let refused = images.refused("snapshot create disk before");
    assert!(refused.contains("has a snapshot \"before\" already"), "{refused}");
    images.done("snapshot delete disk 2");
    images.done("resize disk +1M");
    images.done("snapshot apply disk before");
    images.qemu_img("check -q disk");
    images.qemu_img("compare -q -f raw -F qcow2 raw disk");
    let deleted = images.done("snapshot delete --json disk before");
    let deleted: serde_json::Value = serde_json::from_str(&deleted).unwrap();
    assert_eq!((&deleted["id"], &deleted["disk-size"]), (&"1".into(), &(20 << 20).into()));
    let refused = images.refused("snapshot apply disk before");
    assert!(refused.contains("the image has no snapshot \"before\""), "{refused}");
    let refused = images.refused("snapshot create -f raw raw one");
    assert!(refused.contains("a raw image has no snapshots in it"), "{refused}");
}

#[test]
fn only_what_differs_from_the_backing_image_is_copied() {
    let images = Images::new();
    images.disk("base");
    let mut changed = std::fs::read(images.rig.path("base")).unwrap();
    changed[9_000_000..9_010_000].fill(0);
    changed[15_000_000] = 7;
    images.rig.write("changed", changed);
    images.done("convert -f raw -O qcow2 -b base -F raw changed top");
    images.qemu_img("check -q top");
    images.qemu_img("compare -q -f raw -F qcow2 changed top");
    assert!(std::fs::metadata(images.rig.path("top")).unwrap().len() < 1 << 20);
    let info = images.done("info --backing-chain top");
    assert!(info.contains("backing file: base\nbacking file format: raw\n"), "{info}");
    assert!(info.contains("image: base\nfile format: raw\n"), "{info}");
    let map = images.done("map --json -f qcow2 top");
    let map: serde_json::Value = serde_json::from_str(&map).unwrap();
    let depths: Vec<_> = map.as_array().unwrap().iter().map(|it| it["depth"].as_u64()).collect();
    assert!(depths.contains(&Some(0)) && depths.contains(&Some(1)), "{map}");
}

#[test]
fn info_says_what_qemu_img_says() {
    let images = Images::new();
    images.qemu_img("create -q -f qcow2 -o compression_type=zstd,lazy_refcounts=on disk 3G");
    images.qemu_img("snapshot -c before disk");
    let ours: serde_json::Value =
        serde_json::from_str(&images.done("info --json -f qcow2 disk")).unwrap();
    let theirs: serde_json::Value =
        serde_json::from_str(&images.qemu_img("info --output=json disk")).unwrap();
    for name in
        ["virtual-size", "cluster-size", "format", "actual-size", "dirty-flag", "format-specific"]
    {
        assert_eq!(ours[name], theirs[name], "{name}");
    }
    assert_eq!(ours["snapshots"][0]["name"], "before");
    let text = images.done("info disk");
    assert!(text.contains("virtual size: 3 GiB (3221225472 bytes)"), "{text}");
    assert!(text.contains("1        before"), "{text}");
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let images = Images::new();
    images.disk("raw");
    for (line, words) in [
        ("create -f qcow2 -o cluster_size=3 new 1G", "a cluster has 512 bytes to 2 MiB"),
        ("create -f qcow2 -o cluster_siez=64k new 1G", "did you mean 'cluster_size'?"),
        ("create -f qcow2 -b raw new", "formats are not guessed"),
        ("create -f qcow2 -b lost -F raw new", "lost does not exist"),
        ("create -f qcow2 new", "needs a SIZE"),
        ("create -f floppy new 1M", "there is no image format \"floppy\""),
        ("create raw 1M", "raw is there already"),
        ("convert -f qcow2 -O raw raw new", "this is no qcow2 image"),
        ("convert -O qcow2 -o preallocation=full raw new", "preallocation=full is not possible"),
        ("resize raw 1M", "would lose its last 19 MiB"),
        ("check raw", "keeps nothing to check"),
        ("info lost", "lost does not exist"),
    ] {
        let error = images.refused(line);
        assert!(error.contains(words), "{line}: {error}");
    }
    assert_eq!(images.files(), ["raw"]);
}

#[test]
fn other_places_than_files_are_not_followed() {
    let images = Images::new();
    images.qemu_img("create -q -f qcow2 -u -F raw -b json:{} json 1M");
    images.qemu_img("create -q -f qcow2 -u -F raw -b nbd://host/disk nbd 1M");
    images.qemu_img("create -q -f qcow2 -u -F raw -b lost lost-below 1M");
    images.qemu_img("create -q -f qcow2 -u -F qcow2 -b pool loop 1M");
    images.qemu_img("create -q -f qcow2 -u -F qcow2 -b loop pool 1M");
    for (name, words) in [
        ("json", "begins with \"json\":, and only files are followed"),
        ("nbd", "begins with \"nbd\":, and only files are followed"),
        ("lost-below", "lost does not exist"),
        ("loop", "more than 200 images"),
    ] {
        let error = images.refused(&format!("convert -f qcow2 -O raw {name} new"));
        assert!(error.contains(words), "{name}: {error}");
    }
}

/// As a guest writes it into its raw disk, to be shown a file of the host.
#[test]
fn what_an_image_names_is_not_followed_unless_somebody_said_what_it_is() {
    let images = Images::new();
    images.rig.write("secret", "secret\n".repeat(1 << 16));
    images.qemu_img("create -q -f qcow2 -b secret -F raw forged");
    images.qemu_img("create -q -f qcow2 -o data_file=other,data_file_raw=on elsewhere 1M");
    let extent =
        "# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 8 FLAT \"secret\" 0\n";
    let mut disk = extent.as_bytes().to_vec();
    disk.resize(65536, 0);
    images.rig.write("extent", disk);
    let before = std::fs::read(images.rig.path("other")).unwrap();
    for (name, format, named) in [
        ("forged", "qcow2", "secret"),
        ("elsewhere", "qcow2", "other"),
        ("extent", "vmdk", "secret"),
    ] {
        let mut verbs = vec![format!("convert {name} new"), format!("map {name}")];
        if format == "qcow2" {
            verbs.push(format!("resize {name} 2M"));
        }
        for verb in verbs {
            let error = images.refused(&verb);
            assert!(error.contains(&format!("and names \"{named}\"")), "{verb}: {error}");
            assert!(error.contains(&format!("-f {format}, or -f raw")), "{verb}: {error}");
        }
        images.done(&format!("info {name}"));
        images.done(&format!("convert -f raw {name} new"));
        let [copy, own] = ["new", name].map(|name| std::fs::read(images.rig.path(name)).unwrap());
        // Sectors are whole.
        assert!(copy.starts_with(&own) && copy.len() < own.len() + 512, "{name} is a raw disk");
        std::fs::remove_file(images.rig.path("new")).unwrap();
    }
    assert!(std::fs::read(images.rig.path("other")).unwrap() == before);
    images.done("convert -f qcow2 forged new");
    assert!(std::fs::read(images.rig.path("new")).unwrap().starts_with(b"secret\n"));
}

#[test]
fn an_image_grows_and_is_mended() {
    let images = Images::new();
    images.done("create -f qcow2 disk 1G");
    images.done("resize disk +1G");
    assert!(images.qemu_img("info disk").contains("(2147483648 bytes)"));
    assert!(images.done("check disk").contains("No errors were found on the image."));
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::options().write(true).open(images.rig.path("disk")).unwrap();
    file.write_all_at(&[0, 1], 2 * 65536 + 2 * 9).unwrap();
    file.set_len(10 * 65536).unwrap();
    let error = images.refused("check disk");
    assert!(error.contains("1 leaked clusters"), "{error}");
    assert!(images.done("check --repair leaks disk").contains("1 leaked clusters\n"));
    images.qemu_img("check -q disk");
}

#[test]
fn an_encrypted_image_is_described_and_not_opened() {
    let images = Images::new();
    images.rig.write("key", "secret");
    images.encrypt("disk");
    let before = std::fs::read(images.rig.path("disk")).unwrap();
    assert!(images.done("info disk").contains("encrypted: yes (LUKS"));
    let error = images.refused("convert -O raw disk new");
    assert!(error.contains("uses LUKS encryption, which is not supported"), "{error}");
    assert!(images.refused("resize disk 2M").contains("LUKS encryption"));
    assert!(std::fs::read(images.rig.path("disk")).unwrap() == before);
}

/// The whole way: the daemon, the process that reads the headers, the broker, the VMM.
#[test]
fn a_guest_runs_on_a_chain_of_images() {
    let Some(rig) = guests::defined() else { return };
    let image = |line: &str| {
        let outcome = rig.manor(["image"].into_iter().chain(line.split(' ')));
        assert_eq!(outcome.status, 0, "{line}: {}", outcome.err);
        outcome.out
    };
    image("create base.raw 10M");
    image("create -f qcow2 -b base.raw -F raw middle.qcow2");
    image("create -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2");
    let disk = format!(
        "<devices><disk type='file'><driver name='qemu' type='qcow2'/><source file='{}'/>\
         <target dev='vda' bus='virtio'/></disk>",
        rig.path("top.qcow2").display()
    );
    let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    rig.write("disk.xml", xml.replace("<devices>", &disk));
    let done = |args: &[&str]| {
        let outcome = rig.manor(args);
        assert_eq!(outcome.status, 0, "{args:?}: {}", outcome.err);
        outcome.out
    };
    done(&["define", "disk.xml"]);
    done(&["start", "echo"]);
    let live = done(&["dumpxml", "echo"]);
    let base = format!("<source file='{}'/>", rig.path("base.raw").display());
    assert!(
        live.contains("<backingStore type='file' index='2'>") && live.contains(&base),
        "{live}"
    );
    assert!(!done(&["dumpxml", "--inactive", "echo"]).contains("backingStore"));
    // Nobody else writes to any of them; looking is another matter.
    for name in ["top.qcow2", "middle.qcow2", "base.raw"] {
        let outcome = rig.manor(["image", "resize", name, "+1M"]);
        assert!(outcome.err.contains("is in use by"), "{name}: {}", outcome.err);
    }
    image("info -U top.qcow2");
    done(&["destroy", "echo"]);
    assert!(image("check top.qcow2").contains("No errors"));
    // What cannot be followed is said before a guest starts.
    std::fs::remove_file(rig.path("base.raw")).unwrap();
    let outcome = rig.manor(["start", "echo"]);
    assert!(outcome.err.contains("base.raw does not exist"), "{}", outcome.err);
    rig.write("top.qcow2", "no image at all");
    let outcome = rig.manor(["start", "echo"]);
    assert!(outcome.err.contains("top.qcow2: this is no qcow2 image"), "{}", outcome.err);
}

#[test]
fn a_disk_goes_into_the_formats_of_other_programs_and_back() {
    let images = Images::new();
    images.disk("raw");
    for (format, options) in [
        ("vmdk", ""),
        ("vdi", ""),
        ("vdi", "-o static=on"),
        ("vpc", ""),
        ("vhd", "-o subformat=fixed"),
    ] {
        images.done(&format!("convert -f raw -O {format} {options} raw disk"));
        let known = if format == "vhd" { "vpc" } else { format };
        images.qemu_img(&format!("compare -q -f raw -F {known} raw disk"));
        let info = images.done("info disk");
        assert!(info.contains(&format!("file format: {known}\n")), "{info}");
        images.done(&format!("convert -f {format} -O raw disk back"));
        images.qemu_img("compare -q -f raw -F raw raw back");
    }
    // Extents are files of their own, found by their names.
    images.qemu_img("convert -f raw -O vmdk -o subformat=monolithicFlat raw flat.vmdk");
    images.done("convert -f vmdk -O raw flat.vmdk back");
    images.qemu_img("compare -q -f raw -F raw raw back");
    images.qemu_img("convert -f raw -O vhdx raw disk.vhdx");
    images.done("convert -f vhdx -O raw disk.vhdx back");
    images.qemu_img("compare -q -f raw -F raw raw back");
    assert!(images.done("info disk.vhdx").contains("writable: no: writing VHDX is not provided"));
    assert!(images.refused("create -f vhdx new 1M").contains("VHDX images are only read"));
    assert!(
        images.refused("create -f vdi -o static=maybe new 1M").contains("static=on, static=off")
    );
    assert!(images.refused("create -f vdi -b raw -F raw new").contains("nothing below it"));
    assert!(images.refused("resize -f vdi disk 30M").contains("this is no vdi image"));
}
