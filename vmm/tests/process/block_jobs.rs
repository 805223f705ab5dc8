//! Block jobs on a disk that a guest writes to all the time.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use image::qcow2::{self, CreateOptions, OpenOptions, Qcow2, Repair};
use image::{FileStorage, Format, Image, Raw, Reference};
use vmm_protocol::block_job::{
    Backing, BlockJob, BlockJobKind, BlockJobPhase, BlockJobStatus, BlockWork,
};
use vmm_protocol::config::{self, Fd, ImageFormat, Layer, PciKind};
use vmm_protocol::control::{ControlErrorCode as Code, EventKind, Reply, Request, SwapLayer};

use crate::devices::{blk, device};
use crate::needs_kvm;
use crate::rig::{Client, Guest, Rig};
use crate::swap::busy;

const ID: &str = "virtio-disk0";
const SIZE: u64 = 8 << 20;
/// The guest writes below, and finds the rest as it was.
const HALF: u64 = SIZE / 2;

/// Bytes of no pattern that comes again within the disk.
fn content() -> Vec<u8> {
    (0..SIZE / 4).flat_map(|n| (n as u32).wrapping_mul(0x9e37_79b1).to_le_bytes()).collect()
}

fn raw_image() -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content()).unwrap();
    file
}

fn empty_image() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(SIZE).unwrap();
    file
}

fn overlay(format: &str) -> File {
    let file = tempfile::tempfile().unwrap();
    let backing = Reference { name: "below".to_owned(), format: Some(format.to_owned()) };
    let options = CreateOptions { backing: Some(backing), ..CreateOptions::new(SIZE) };
    qcow2::create(&FileStorage::new(file.try_clone().unwrap()).unwrap(), &options).unwrap();
    file
}

fn storage(file: &File) -> Arc<FileStorage> {
    Arc::new(FileStorage::new(file.try_clone().unwrap()).unwrap())
}

fn open_over(file: &File, backing: Option<Arc<dyn Image>>, read_only: bool) -> Arc<dyn Image> {
    let options = OpenOptions { read_only, backing, ..OpenOptions::default() };
    Arc::new(Qcow2::open(storage(file), options).unwrap())
}

fn open_raw(file: &File) -> Arc<dyn Image> {
    Arc::new(Raw::open(storage(file), true).unwrap())
}

fn all(image: &dyn Image) -> Vec<u8> {
    let mut data = vec![0; SIZE as usize];
    image.read(&mut data, 0).unwrap();
    data
}

fn layer(format: ImageFormat, file: i32) -> Layer {
    Layer { format, file: Fd(file), data_file: None, extents: Vec::new() }
}

/// A guest at work on a chain: the raw base, then qcow2 images on it.
struct Bench {
    guest: Guest,
    client: Client,
    base: File,
    overlays: Vec<File>,
}

impl Bench {
    /// `overlays` images on the base, each with something of its own in the part that the guest does
    /// not write.
    fn new(overlays: usize) -> Self {
        let base = raw_image();
        let mut images: Vec<File> = Vec::new();
        let mut below = open_raw(&base);
        for n in 0..overlays {
            let file = overlay(if n == 0 { "raw" } else { "qcow2" });
            let image = open_over(&file, Some(below), false);
            image.write(&[n as u8 + 1; 100_000], HALF + 300_000 * (n as u64 + 1)).unwrap();
            image.write_zeroes(HALF + 2_000_000 + 65536 * n as u64, 65536, true).unwrap();
            image.flush().unwrap();
            below = image;
            images.push(file);
        }
        drop(below);
        let mut rig = Rig::new(&busy(0x1fff));
        let mut layers: Vec<Layer> = Vec::new();
        for file in images.iter().rev() {
            layers.push(layer(ImageFormat::Qcow2, rig.add(file.try_clone().unwrap()).0));
        }
        layers.push(layer(ImageFormat::Raw, rig.add(base.try_clone().unwrap()).0));
        let mut disk = blk(&mut rig, tempfile::tempfile().unwrap());
        disk.image = config::Image::Chain(layers);
        let mut guest = rig.devices(vec![device(ID, 3, PciKind::Blk(disk))]).start();
        let (mut client, _) = guest.greet();
        client.ask(Request::Events { after: 0 }).unwrap();
        guest.wait_serial("the guest", |serial| serial.len() > 20);
        Self { guest, client, base, overlays: images }
    }

    fn start(&mut self, work: BlockWork, bandwidth: u64, files: &[&File]) -> Result<Reply, Code> {
        let job = BlockJob { id: ID.to_owned(), bandwidth, work };
        let files: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.as_fd()).collect();
        let request = Request::StartBlockJob(Box::new(job));
        self.client.ask_with_files(request, &files).map_err(|error| error.code)
    }

    fn ask(&mut self, request: Request) -> Result<Reply, Code> {
        self.client.ask(request).map_err(|error| error.code)
    }

    fn end(&mut self, pivot: bool) -> Result<Reply, Code> {
        self.ask(Request::EndBlockJob { id: ID.to_owned(), pivot })
    }

    /// The next phase that is told.
    fn phase(&mut self) -> BlockJobPhase {
        let event = self.client.event_like(|kind| matches!(kind, EventKind::BlockJob(_)));
        let EventKind::BlockJob(status) = event.kind else { panic!() };
        status.phase
    }

    fn status(&mut self) -> BlockJobStatus {
        match self.ask(Request::BlockJobs) {
            Ok(Reply::BlockJobs(jobs)) => jobs.into_iter().next().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The guest goes on well; then it is paused.
    fn pause(&mut self) {
        let seen = self.guest.serial().len();
        self.guest.wait_serial("more", |serial| serial.len() > seen + 50 || serial.contains("bad"));
        self.ask(Request::Pause).unwrap();
        assert!(!self.guest.serial().contains("bad"), "{}", self.guest.serial());
    }

    /// As the guest would read the chain of these overlays on the base.
    fn content(&self, overlays: &[usize]) -> Vec<u8> {
        let mut image = open_raw(&self.base);
        for n in overlays {
            image = open_over(&self.overlays[*n], Some(image), true);
        }
        all(&*image)
    }

    fn check(&self, n: usize) {
        let report = qcow2::check(&*storage(&self.overlays[n]), Repair::Nothing).unwrap();
        assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
    }
}

/// What the guest does not write is as it was made.
fn upper_half(overlays: usize) -> Vec<u8> {
    let mut data = content();
    for n in 0..overlays {
        let at = (HALF + 300_000 * (n as u64 + 1)) as usize;
        data[at..at + 100_000].fill(n as u8 + 1);
        let at = (HALF + 2_000_000 + 65536 * n as u64) as usize;
        data[at..at + 65536].fill(0);
    }
    data.split_off(HALF as usize)
}

fn backing(name: &str, format: &str) -> Backing {
    Backing { name: name.to_owned(), format: format.to_owned() }
}

#[test]
fn what_lies_below_is_pulled_into_the_guests_image() {
    needs_kvm!();
    for base in [None, Some(2)] {
        let mut bench = Bench::new(2);
        let link = base.map(|_| backing("other", "raw"));
        let pull = BlockWork::Pull { base, backing: link };
        assert_eq!(bench.start(pull.clone(), 16 << 20, &[]), Ok(Reply::Done));
        assert_eq!(bench.start(pull, 0, &[]), Err(Code::Busy));
        assert_eq!(bench.phase(), BlockJobPhase::Completed);
        let status = bench.status();
        assert_eq!((status.kind, status.done, status.total), (BlockJobKind::Pull, SIZE, SIZE));
        bench.pause();
        drop(bench.guest);
        let named = image::describe(&*storage(&bench.overlays[1]), Format::Qcow2).unwrap().backing;
        assert_eq!(named.map(|it| it.name), base.map(|_| "other".to_owned()));
        let below = base.map(|_| open_raw(&bench.base));
        let now = all(&*open_over(&bench.overlays[1], below, true));
        assert!(now[HALF as usize..] == upper_half(2));
        let report = qcow2::check(&*storage(&bench.overlays[1]), Repair::Nothing).unwrap();
        assert_eq!((report.corruptions, report.leaks), (0, 0));
    }
}

#[test]
fn an_image_between_is_committed_into_the_one_below_it() {
    needs_kvm!();
    let mut bench = Bench::new(2);
    let work = BlockWork::Commit {
        top: 1,
        base: 2,
        into: layer(ImageFormat::Raw, 0),
        overlay: None,
        backing: backing("base", "raw"),
    };
    let base = bench.base.try_clone().unwrap();
    assert_eq!(bench.start(work, 0, &[&base]), Ok(Reply::Done));
    assert_eq!(bench.phase(), BlockJobPhase::Completed);
    bench.pause();
    drop(bench.guest.serial());
    let Bench { guest, base, overlays, .. } = bench;
    drop(guest);
    let now = all(&*open_over(&overlays[1], Some(open_raw(&base)), true));
    assert!(now[HALF as usize..] == upper_half(2));
    assert!(all(&*open_raw(&base))[HALF as usize..] == upper_half(1));
}

#[test]
fn the_guests_image_is_committed_and_the_guest_goes_on_with_the_base() {
    needs_kvm!();
    let mut bench = Bench::new(2);
    let base = bench.base.try_clone().unwrap();
    let work = BlockWork::ActiveCommit { base: 2, into: layer(ImageFormat::Raw, 0) };
    assert_eq!(bench.start(work, 16 << 20, &[&base]), Ok(Reply::Done));
    assert_eq!(bench.end(true), Err(Code::State), "it is not ready");
    assert_eq!(bench.phase(), BlockJobPhase::Ready);
    assert_eq!(bench.client.save(&tempfile::tempfile().unwrap()).unwrap_err().code, Code::State);
    bench.pause();
    assert_eq!(bench.end(true), Ok(Reply::Done));
    assert_eq!(bench.phase(), BlockJobPhase::Completed);
    // Paused since before: what the overlays show is what the base has.
    let now = bench.content(&[]);
    assert!(now == bench.content(&[0, 1]));
    assert!(now[HALF as usize..] == upper_half(2));
    bench.check(0);
    bench.check(1);
    bench.ask(Request::Resume).unwrap();
    bench.pause();
    assert!(now != bench.content(&[]), "the guest writes there now");
    assert_eq!(bench.end(false), Err(Code::NotFound), "it has ended");
    assert_eq!(bench.ask(Request::DismissBlockJob { id: ID.to_owned() }), Ok(Reply::Done));
    assert_eq!(bench.ask(Request::BlockJobs), Ok(Reply::BlockJobs(Vec::new())));
}

#[test]
fn a_disk_is_copied_and_the_guest_goes_on_with_the_copy_or_without() {
    needs_kvm!();
    for (shallow, pivot) in [(false, true), (true, true), (false, false)] {
        let mut bench = Bench::new(1);
        let copy = if shallow { overlay("raw") } else { empty_image() };
        let target = match shallow {
            true => vec![SwapLayer::New(layer(ImageFormat::Qcow2, 0)), SwapLayer::Kept(1)],
            false => vec![SwapLayer::New(layer(ImageFormat::Raw, 0))],
        };
        let work = BlockWork::Copy { target, shallow, blank: true };
        assert_eq!(bench.start(work, 16 << 20, &[&copy]), Ok(Reply::Done));
        assert_eq!(bench.phase(), BlockJobPhase::Ready);
        bench.pause();
        assert_eq!(bench.end(pivot), Ok(Reply::Done));
        let ended = if pivot { BlockJobPhase::Completed } else { BlockJobPhase::Cancelled };
        assert_eq!(bench.phase(), ended);
        let copied = |bench: &Bench| match shallow {
            true => all(&*open_over(&copy, Some(open_raw(&bench.base)), true)),
            false => all(&*open_raw(&copy)),
        };
        let (old, new) = (bench.content(&[0]), copied(&bench));
        // What was given up is the guest's again, and not all in its file.
        assert!(old == new || !pivot, "{shallow}");
        assert!(new[HALF as usize..] == upper_half(1), "{shallow} {pivot}");
        bench.check(0);
        bench.ask(Request::Resume).unwrap();
        bench.pause();
        if !shallow {
            assert_eq!(copied(&bench) != new, pivot, "who the guest writes to");
        }
    }
}

#[test]
fn a_job_that_is_cancelled_or_killed_or_fails_leaves_the_disk_as_it_was() {
    needs_kvm!();
    let slow = 1 << 20;
    let mut bench = Bench::new(2);
    let base = bench.base.try_clone().unwrap();
    let pull = BlockWork::Pull { base: None, backing: None };
    assert_eq!(bench.start(pull, slow, &[]), Ok(Reply::Done));
    assert_eq!(bench.status().phase, BlockJobPhase::Running);
    assert_eq!(bench.end(false), Ok(Reply::Done));
    assert_eq!(bench.phase(), BlockJobPhase::Cancelled);
    // A target that cannot be written to.
    let read_only = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&base)));
    let work = BlockWork::Copy {
        target: vec![SwapLayer::New(layer(ImageFormat::Raw, 0))],
        shallow: false,
        blank: false,
    };
    assert_eq!(bench.start(work, 0, &[&read_only.unwrap()]), Ok(Reply::Done));
    assert!(matches!(bench.phase(), BlockJobPhase::Failed { .. }));
    for (work, code) in [
        (BlockWork::Pull { base: Some(7), backing: None }, Code::Malformed),
        (BlockWork::ActiveCommit { base: 0, into: layer(ImageFormat::Raw, 0) }, Code::Malformed),
    ] {
        assert_eq!(bench.start(work, 0, &[&base]), Err(code));
    }
    // Killed in the middle.
    let work = BlockWork::ActiveCommit { base: 2, into: layer(ImageFormat::Raw, 0) };
    assert_eq!(bench.start(work, slow, &[&base]), Ok(Reply::Done));
    assert_eq!(
        bench.ask(Request::LimitBlockJob { id: ID.to_owned(), bandwidth: 4 << 20 }),
        Ok(Reply::Done)
    );
    bench.pause();
    assert_eq!(bench.status().bandwidth, 4 << 20);
    let Bench { guest, base, overlays, .. } = bench;
    drop(guest);
    let mut image = open_raw(&base);
    for file in &overlays {
        let report = qcow2::check(&*storage(file), Repair::Nothing).unwrap();
        assert_eq!(report.corruptions, 0, "{:?}", report.messages);
        image = open_over(file, Some(image), true);
    }
    assert!(all(&*image)[HALF as usize..] == upper_half(2));
}
