//! Backups of a guest's disk while it writes to it: by qemu-img over NBD, into images, and what
//! dirty bitmaps say of it.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use manor_tests::apt::Apt;
use manor_tests::paths;
use manor_tests::qemu::{ImageTools, image_tools};
use manor_tests::tree::Program;
use tempfile::TempDir;
use vmm_protocol::backup::{
    BackupBegin, BackupDisk, BackupPhase, BackupStatus, BackupTarget, BitmapChange,
};
use vmm_protocol::block_job::{BlockJob, BlockWork};
use vmm_protocol::config::{DriveKind, Fd, Image, ImageFormat, Layer, PciKind};
use vmm_protocol::control::{ControlErrorCode, EventKind, Reply, Request, SwapLayer};

use crate::devices::device;
use crate::disks;
use crate::nbd::{counting, numbers, wait_for_more};
use crate::needs_kvm;
use crate::rig::{Client, Guest, Rig};
use crate::swap;

const ID: &str = "disk-disk-0";
const SIZE: u64 = 4 << 20;
const GRANULARITY: u64 = 65536;

struct Bench {
    dir: TempDir,
    tools: ImageTools,
    guest: Guest,
    client: Client,
}

impl Bench {
    /// A guest that counts in sector 9 of a qcow2 image, whose second half has a pattern.
    fn new() -> Self {
        let (dir, tools) = (tempfile::tempdir().unwrap(), image_tools().unwrap());
        let pattern = dir.path().join("pattern");
        let mut file = File::create(&pattern).unwrap();
        file.set_len(SIZE).unwrap();
        file.write_all_at(&[0xab; 300_000], SIZE / 2).unwrap();
        file.flush().unwrap();
        let bench = |args: &[&str]| {
            let output = tools.img.command().args(args).current_dir(dir.path()).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        bench(&["convert", "-f", "raw", "-O", "qcow2", "pattern", "disk"]);
        let mut rig = Rig::new(&counting());
        let mut host = disks::scsi(&mut rig);
        let mut drive = disks::drive(&mut rig, disks::image(), DriveKind::Disk, 0);
        let image = File::options().read(true).write(true).open(dir.path().join("disk")).unwrap();
        let file = rig.add(image);
        if let Some(medium) = &mut drive.medium {
            let (format, extents) = (ImageFormat::Qcow2, Vec::new());
            medium.image = Image::Chain(vec![Layer { format, file, data_file: None, extents }]);
        }
        host.drives[0] = drive;
        let mut guest = rig.devices(vec![device("scsi0", 3, PciKind::Scsi(host))]).start();
        let (mut client, _) = guest.greet();
        client.ask(Request::Events { after: 0 }).unwrap();
        wait_for_more(&mut guest);
        Self { dir, tools, guest, client }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn img(&self, args: &[&str]) -> String {
        let mut command = self.tools.img.command();
        let output = command.args(args).current_dir(self.dir.path()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "qemu-img {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn nbd(&self, tool: &Program, args: &[&str]) -> String {
        let output = tool.command().args(args).current_dir(self.dir.path()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn begin(
        &mut self,
        since: &[&str],
        socket: Option<&str>,
        target: Option<(ImageFormat, &Path)>,
        bitmaps: Vec<BitmapChange>,
    ) -> Result<Reply, vmm_protocol::control::ControlError> {
        let scratch = tempfile::tempfile().unwrap();
        let mut files: Vec<std::os::fd::OwnedFd> = vec![scratch.into()];
        let listener = socket.map(|name| {
            files.push(UnixListener::bind(self.path(name)).unwrap().into());
            Fd(1)
        });
        let target = target.map(|(format, path)| {
            let mut options = File::options();
            let file = options.read(true).write(true).create(true).truncate(false).open(path);
            files.push(file.unwrap().into());
            BackupTarget { format, file: Fd(1) }
        });
        let disk = BackupDisk {
            id: ID.to_owned(),
            scratch: Fd(0),
            since: since.iter().map(|name| (*name).to_owned()).collect(),
            export: "vda".to_owned(),
            exported_bitmap: (!since.is_empty()).then(|| "backup-vda".to_owned()),
            target,
        };
        let begin = BackupBegin { disks: vec![disk], listener, bitmaps };
        let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
        self.client.ask_with_files(Request::BackupBegin(Box::new(begin)), &files)
    }

    fn end(&mut self) {
        assert_eq!(self.client.ask(Request::BackupEnd), Ok(Reply::Done));
    }

    fn status(&mut self) -> Option<BackupStatus> {
        match self.client.ask(Request::BackupStatus) {
            Ok(Reply::Backup(status)) => status,
            other => panic!("{other:?}"),
        }
    }
}

/// nbdcopy and nbdinfo, which come by another library than QEMU's.
fn nbd_tools() -> [Program; 2] {
    let tree = paths::made_once("libnbd-bin", |tree| {
        Apt::open()?.unpack_closure(&["libnbd-bin"], None, tree)
    });
    let tree = tree.unwrap();
    ["usr/bin/nbdcopy", "usr/bin/nbdinfo"].map(|path| Program::in_tree(&tree, path))
}

fn add(bitmap: &str) -> BitmapChange {
    let (disk, bitmap) = (ID.to_owned(), bitmap.to_owned());
    BitmapChange::Add { disk, bitmap, granularity: GRANULARITY, persistent: true }
}

/// The number in sector 9.
fn counted(image: &[u8]) -> u32 {
    u32::from_le_bytes(image[9 * 512 + 4..9 * 512 + 8].try_into().unwrap())
}

#[test]
fn clients_see_the_disk_as_it_was_and_then_what_was_written_since() {
    needs_kvm!();
    let mut bench = Bench::new();
    assert_eq!(bench.begin(&[], Some("first"), None, vec![add("one")]), Ok(Reply::Done));
    let busy = bench.begin(&[], Some("other"), None, Vec::new()).unwrap_err();
    assert_eq!(busy.code, ControlErrorCode::Busy);
    // What the backup reads stays what the disk is made of.
    let same = swap::swap(ID, vec![SwapLayer::Kept(0)]);
    assert_eq!(swap::ask(&mut bench.client, vec![same], &[]), Err(ControlErrorCode::Busy));
    let pull = BlockWork::Pull { base: None, backing: None };
    let job = BlockJob { id: ID.to_owned(), bandwidth: 0, work: pull };
    let refused = bench.client.ask(Request::StartBlockJob(Box::new(job))).unwrap_err();
    assert_eq!(refused.code, ControlErrorCode::Busy, "{refused}");
    let before = numbers(&bench.guest.serial()).last().copied().unwrap();
    wait_for_more(&mut bench.guest);
    for name in ["full", "again"] {
        let url = format!("nbd+unix:///vda?socket={}", bench.path("first").display());
        bench.img(&["convert", "-f", "raw", "-O", "raw", &url, name]);
        wait_for_more(&mut bench.guest);
    }
    let full = bench.read("full");
    let [copy, info] = nbd_tools();
    let url = format!("nbd+unix:///vda?socket={}", bench.path("first").display());
    bench.nbd(&copy, &["--connections=4", &url, "copied"]);
    assert!(bench.read("copied") == full, "four connections see the same moment");
    let list = format!("nbd+unix:///?socket={}", bench.path("first").display());
    assert!(bench.nbd(&info, &["--list", &list]).contains("export=\"vda\""));
    assert!(full == bench.read("again"), "the moment has changed");
    assert!(counted(&full) <= before + 1, "{} after {before}", counted(&full));
    assert!(full[SIZE as usize / 2..][..300_000].iter().all(|byte| *byte == 0xab));
    assert_eq!(full[SIZE as usize / 2 + 300_000], 0);
    assert_eq!(bench.status().map(|it| it.phase), Some(BackupPhase::Running));
    bench.end();
    assert_eq!(bench.status(), None);
    assert_eq!(bench.begin(&["one"], Some("second"), None, vec![add("two")]), Ok(Reply::Done));
    let socket = bench.path("second").display().to_string();
    let options = format!(
        "driver=nbd,export=vda,server.type=unix,server.path={socket},\
         x-dirty-bitmap=qemu:dirty-bitmap:backup-vda"
    );
    let map = bench.img(&["map", "--output=json", "--image-opts", &options]);
    // qemu-img shows what is dirty as what has no data.
    let dirty: Vec<_> = map.lines().filter(|line| line.contains("\"data\": false")).collect();
    assert_eq!(dirty.len(), 1, "{map}");
    assert!(dirty[0].contains("\"start\": 0, \"length\": 65536"), "{map}");
    let url = format!("nbd+unix:///vda?socket={socket}");
    let map = bench.nbd(&info, &["--map=qemu:dirty-bitmap:backup-vda", &url]);
    let dirty: Vec<_> = map.lines().filter(|line| line.contains("dirty")).collect();
    assert_eq!(dirty.len(), 1, "{map}");
    assert_eq!(dirty[0].split_whitespace().take(2).collect::<Vec<_>>(), ["0", "65536"]);
    bench.end();
    // It was the last: bitmaps are in the image, and true.
    bench.client.ask(Request::Destroy).unwrap();
    let Bench { dir, tools, guest, .. } = bench;
    guest.wait();
    let output = tools.img.command().args(["info", "disk"]).current_dir(dir.path()).output();
    let info = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(info.contains("name: one") && info.contains("name: two"), "{info}");
    assert!(!info.contains("in-use"), "{info}");
    let check = tools.img.command().args(["check", "disk"]).current_dir(dir.path()).output();
    assert!(check.unwrap().status.success());
}

#[test]
fn targets_get_the_moment_or_what_was_written_since_the_last() {
    needs_kvm!();
    let mut bench = Bench::new();
    let ended = |kind: &EventKind| matches!(kind, EventKind::BackupEnded { .. });
    let full = bench.path("full.raw");
    let target = Some((ImageFormat::Raw, full.as_path()));
    assert_eq!(bench.begin(&[], None, target, vec![add("one")]), Ok(Reply::Done));
    assert_eq!(bench.client.event_like(ended).kind, EventKind::BackupEnded { error: None });
    assert_eq!(bench.status().map(|it| (it.done, it.phase)), Some((SIZE, BackupPhase::Done)));
    bench.end();
    let first = counted(&bench.read("full.raw"));
    wait_for_more(&mut bench.guest);
    bench.img(&["create", "-q", "-f", "qcow2", "-b", "full.raw", "-F", "raw", "since"]);
    let since = bench.path("since");
    let target = Some((ImageFormat::Qcow2, since.as_path()));
    assert_eq!(bench.begin(&["one"], None, target, Vec::new()), Ok(Reply::Done));
    assert_eq!(bench.client.event_like(ended).kind, EventKind::BackupEnded { error: None });
    assert_eq!(bench.status().map(|it| it.total), Some(GRANULARITY));
    bench.end();
    bench.img(&["convert", "-f", "qcow2", "-O", "raw", "since", "restored"]);
    let restored = bench.read("restored");
    assert!(counted(&restored) > first);
    assert!(restored[65536..] == bench.read("full.raw")[65536..]);
    // What cannot be had changes nothing.
    let refused = bench.begin(&["nothing"], Some("x"), None, vec![add("three")]).unwrap_err();
    assert_eq!(refused.code, ControlErrorCode::NotFound);
    let small = bench.path("small");
    std::fs::write(&small, b"no image").unwrap();
    let target = Some((ImageFormat::Qcow2, small.as_path()));
    let refused = bench.begin(&[], None, target, vec![add("three")]).unwrap_err();
    assert!(refused.message.contains("target"), "{refused}");
    let Ok(Reply::Bitmaps(bitmaps)) = bench.client.ask(Request::ListBitmaps) else { panic!() };
    let names: Vec<_> = bitmaps.iter().map(|bitmap| bitmap.name.as_str()).collect();
    assert_eq!(names, ["one"]);
    wait_for_more(&mut bench.guest);
}
