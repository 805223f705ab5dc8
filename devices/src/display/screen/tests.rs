use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use manor_tests::rfb::{self, Viewer};

use super::{Listener, Screen, Sharing};
use crate::display::{Password, Scanout, Surface, Terms};
use crate::input::{Accepts, InputEvent, InputSink};
use crate::io_thread::IoThread;
use crate::sync::Lock;

/// What a test paints.
pub(super) struct Canvas {
    picture: Mutex<(u32, u32, Vec<u32>)>,
    drawn: AtomicU32,
}

impl Scanout for Canvas {
    fn draw(&self, surface: &mut Surface, _blink: bool) {
        self.drawn.fetch_add(1, Ordering::SeqCst);
        let (width, height, pixels) = &*self.picture.hold();
        surface.begin(*width, *height);
        for (y, row) in (0..).zip(pixels.chunks(*width as usize)) {
            surface.put_row(y, row);
        }
    }
}

#[derive(Default)]
struct Sink(Mutex<Vec<InputEvent>>);

impl InputSink for Sink {
    fn accepts(&self) -> Accepts {
        Accepts { keys: true, position: true, motion: false }
    }
    fn send(&self, events: &[InputEvent]) {
        self.0.hold().extend_from_slice(events);
    }
}

pub(super) struct Rig {
    pub(super) screen: Arc<Screen>,
    pub(super) canvas: Arc<Canvas>,
    sink: Arc<Sink>,
    _thread: Arc<IoThread>,
}

pub(super) fn rig() -> Rig {
    let canvas = Canvas { picture: Mutex::default(), drawn: AtomicU32::new(0) };
    let (canvas, sink) = (Arc::new(canvas), Arc::new(Sink::default()));
    paint(&canvas, 200, 100, |_, _| 0x12_3456);
    let screen = Screen::new("guest", canvas.clone(), sink.clone()).unwrap();
    let thread = IoThread::spawn("screen", || Ok(())).unwrap();
    drop(thread.add(screen.worker().unwrap()).unwrap());
    Rig { screen, canvas, sink, _thread: thread }
}

pub(super) fn paint(canvas: &Canvas, width: u32, height: u32, colour: impl Fn(u32, u32) -> u32) {
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let pixels = pixels.map(|(x, y)| colour(x, y)).collect();
    *canvas.picture.hold() = (width, height, pixels);
}

fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (ours, theirs)
}

fn join(rig: &Rig) -> Viewer<UnixStream> {
    let (ours, theirs) = pair();
    rig.screen.add_viewer(theirs.into());
    Viewer::connect(ours, None).unwrap()
}

/// Read updates until the viewer has the painted picture.
pub(super) fn expect_picture<S: Read + Write>(rig: &Rig, viewer: &mut Viewer<S>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        {
            let (width, height, pixels) = &*rig.canvas.picture.hold();
            if (viewer.width, viewer.height) == (*width as usize, *height as usize)
                && viewer.pixels == *pixels
            {
                return;
            }
        }
        assert!(Instant::now() < deadline);
        viewer.update().unwrap();
        viewer.request(true).unwrap();
    }
}

#[test]
fn a_viewer_sees_what_is_painted_in_every_encoding() {
    let rig = rig();
    for encoding in [rfb::RAW, rfb::ZRLE, rfb::TIGHT] {
        let mut viewer = join(&rig);
        assert_eq!(viewer.name, "guest");
        let painted = {
            let (width, height, _) = &*rig.canvas.picture.hold();
            (*width, *height)
        };
        assert_eq!((viewer.width as u32, viewer.height as u32), painted, "from the first on");
        viewer.set_encodings(&[encoding, rfb::DESKTOP_SIZE]).unwrap();
        viewer.request(false).unwrap();
        // Few colours, two, many in runs, and noise.
        let noise = |x: u32, y: u32| ((x * 7919) ^ (y * 104_729)).wrapping_mul(2_654_435_761) >> 8;
        let pictures: [&dyn Fn(u32, u32) -> u32; 6] = [
            &|_, _| 0xff_0000,
            &|x, y| if (x ^ y) & 1 == 0 { 0xff_ffff } else { 0 },
            &|x, y| (x / 8 + y / 16) % 13 * 0x01_0f07,
            &|x, _| x / 5 * 0x03_0507,
            &|x, y| (x + y) % 200 * 0x01_0101,
            &noise,
        ];
        for (number, picture) in (0..).zip(pictures) {
            // Odd sizes, one with a tile that is a pixel wide.
            paint(&rig.canvas, 193 + number * 50, 65 + number, picture);
            expect_picture(&rig, &mut viewer);
        }
        assert!(viewer.used.contains(&encoding), "{:?}", viewer.used);
    }
}

#[test]
fn nothing_is_drawn_while_nobody_asks() {
    let rig = rig();
    let mut viewer = join(&rig);
    viewer.request(false).unwrap();
    viewer.update().unwrap();
    let drawn = rig.canvas.drawn.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(rig.canvas.drawn.load(Ordering::SeqCst), drawn);
}

#[test]
fn a_picture_is_a_png_of_what_is_shown() {
    let rig = rig();
    let (mut ours, theirs) = pair();
    rig.screen.send_picture(theirs.into());
    let mut file = Vec::new();
    ours.read_to_end(&mut file).unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height, &pixels[..3]), (200, 100, &[0x12, 0x34, 0x56][..]));
}

#[test]
fn viewers_come_in_by_tcp_and_by_unix_sockets_with_the_password() {
    let rig = rig();
    let password = Password { text: "secret".to_owned(), valid_to: None };
    let terms = Arc::new(Terms::new("guest", Some(password)));
    let sharing = Sharing::AllowExclusive;
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let unix = UnixListener::bind(dir.path().join("vnc")).unwrap();
    for socket in [tcp.into(), unix.into()] {
        rig.screen.listen(Listener { socket, terms: terms.clone(), sharing });
    }
    let stream = std::net::TcpStream::connect(address).unwrap();
    Viewer::connect(stream, Some("secret")).unwrap();
    let stream = UnixStream::connect(dir.path().join("vnc")).unwrap();
    let refused = Viewer::connect(stream, Some("wrong")).err().unwrap().to_string();
    assert!(refused.contains("password"), "{refused}");
    let stream = UnixStream::connect(dir.path().join("vnc")).unwrap();
    assert!(Viewer::connect(stream, None).is_err(), "without a password");
}

#[test]
fn input_reaches_the_guest_and_nothing_stays_pressed() {
    let rig = rig();
    let mut viewer = join(&rig);
    viewer.key('a'.into(), true).unwrap();
    viewer.pointer(1, 10, 10).unwrap();
    drop(viewer);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !rig.sink.0.hold().ends_with(&[
        InputEvent::Key { code: 30, down: false },
        InputEvent::Button { code: crate::input::button::LEFT, down: false },
    ]) {
        assert!(Instant::now() < deadline, "{:?}", rig.sink.0.hold());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_that_reads_nothing_holds_up_nobody() {
    let rig = rig();
    paint(&rig.canvas, 1920, 1080, |x, y| x * y);
    let mut deaf: Vec<_> = (0..4).map(|_| join(&rig)).collect();
    for viewer in &mut deaf {
        viewer.set_encodings(&[rfb::DESKTOP_SIZE]).unwrap();
        for _ in 0..100 {
            viewer.request(false).unwrap();
        }
    }
    let mut viewer = join(&rig);
    viewer.set_encodings(&[rfb::ZRLE, rfb::DESKTOP_SIZE]).unwrap();
    viewer.request(false).unwrap();
    expect_picture(&rig, &mut viewer);
    paint(&rig.canvas, 1920, 1080, |_, _| 1);
    expect_picture(&rig, &mut viewer);
}

#[test]
fn connections_that_come_and_go_leave_room_for_others() {
    let rig = rig();
    for _ in 0..200 {
        let (ours, theirs) = pair();
        rig.screen.add_viewer(theirs.into());
        drop(ours);
    }
    // All places are taken by those who say nothing, but not for ever; one that leaves makes room.
    let silent: Vec<_> = (0..40)
        .map(|_| {
            let (ours, theirs) = pair();
            rig.screen.add_viewer(theirs.into());
            ours
        })
        .collect();
    drop(silent);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (ours, theirs) = pair();
        rig.screen.add_viewer(theirs.into());
        match Viewer::connect(ours, None) {
            Ok(_) => break,
            Err(error) => assert!(Instant::now() < deadline, "{error:#}"),
        }
    }
}

#[test]
fn a_viewer_that_wants_to_be_alone_is() {
    let rig = rig();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vnc");
    let socket = UnixListener::bind(&path).unwrap().into();
    let terms = Arc::new(Terms::new("guest", None));
    rig.screen.listen(Listener { socket, terms, sharing: Sharing::AllowExclusive });
    let mut first = Viewer::connect(UnixStream::connect(&path).unwrap(), None).unwrap();
    let mut alone = UnixStream::connect(&path).unwrap();
    alone.write_all(b"RFB 003.008\n\x01\x00").unwrap();
    assert_eq!(first.stream().read(&mut [0]).unwrap(), 0, "the first has to go");
    assert!(
        Viewer::connect(UnixStream::connect(&path).unwrap(), None).is_err() || {
            let mut late = Viewer::connect(UnixStream::connect(&path).unwrap(), None).unwrap();
            late.stream().read(&mut [0]).unwrap() == 0
        }
    );
}
