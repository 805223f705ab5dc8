//! The programs that people look at guests with: a VNC viewer of Debian, and a browser.

use std::net::TcpListener;
use std::path::Path;

use baremetal::Width;
use manor_tests::browser::{self, Browser};
use manor_tests::picture::Picture;
use manor_tests::tree::Program;
use manor_tests::vencrypt::Certificates;
use manor_tests::viewers;

use super::guests::ok;
use super::rig::{Rig, wait_for};
use super::terminal::Terminal;

const ATTRIBUTE: u16 = 0x3c0;
const DISPI: u16 = 0x1ce;
const I8042: u16 = 0x64;
pub(crate) const SIZE: (usize, usize) = (320, 240);
/// Each fills a third of the screen.
pub(crate) const BANDS: [u32; 3] = [0xff_0000, 0x00_ff00, 0x12_34ff];

/// Shows three bands of colour, and prints every scan code that it reads.
fn painting_guest() -> Vec<u8> {
    baremetal::pvh(|asm| {
        let (width, height) = (SIZE.0 as u32, SIZE.1 as u32);
        for (index, value) in [(1, width), (2, height), (3, 32), (4, 0x41)] {
            asm.out(Width::Word, DISPI, index).out(Width::Word, DISPI + 1, value);
        }
        asm.out(Width::Byte, ATTRIBUTE, 0x20);
        asm.pci_read(1, 0, 0x10).and_eax(!0xf).raw(&[0x89, 0xc7]); // mov edi, eax
        for colour in BANDS {
            asm.raw(&[0xb9]).raw(&(width * height / 3).to_le_bytes()); // mov ecx, …
            asm.set_eax(colour).raw(&[0xf3, 0xab]); // rep stosd
        }
        asm.out(Width::Byte, I8042, 0xae).print("ready\n");
        let poll = asm.here();
        asm.read_port(Width::Byte, I8042).and_eax(1).jump_if_eax_is(0, poll);
        asm.read_port(Width::Byte, 0x60).print_eax().print("\n").jump(poll);
    })
}

/// A rig with more configuration, and the guest in it; or why there is none.
pub(crate) fn painted(configuration: &str, graphics: &str) -> Option<Rig> {
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        println!("SKIP: /dev/kvm cannot be opened");
        return None;
    }
    let mut rig = Rig::without_daemon();
    // A table that is there already takes its keys, a new one comes last.
    let mut text = std::fs::read_to_string(rig.path("manor.toml")).unwrap();
    match configuration.split_once('\n') {
        Some(("[api]", keys)) => text = text.replacen("[api]\n", &format!("[api]\n{keys}"), 1),
        _ => text.push_str(configuration),
    }
    rig.write("manor.toml", text);
    rig.start_daemon();
    rig.write("kernel", painting_guest());
    let [kernel, serial] = ["kernel", "serial"].map(|name| rig.path(name).display().to_string());
    let xml = format!(
        "<domain type='kvm'><name>show</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel></os><devices>\
         <serial type='file'><source path='{serial}'/></serial>{graphics}</devices></domain>"
    );
    rig.write("show.xml", xml);
    ok(&rig, &["create", "show.xml"]);
    wait_for("the guest", || serial_of(&rig).contains("ready"));
    Some(rig)
}

fn serial_of(rig: &Rig) -> String {
    std::fs::read_to_string(rig.path("serial")).unwrap_or_default()
}

fn screenshot(rig: &Rig) -> Picture {
    ok(rig, &["screenshot", "show", "picture.png"]);
    let picture = Picture::of_png(&std::fs::read(rig.path("picture.png")).unwrap()).unwrap();
    assert_eq!((picture.width, picture.height), SIZE);
    let third = picture.pixels.len() / 3;
    let expected: Vec<_> = BANDS.iter().flat_map(|band| vec![*band; third]).collect();
    assert!(picture.pixels == expected, "{picture:?}");
    picture
}

/// Capture the screen with the password typed; what the viewer saved, or what it said.
fn captured(rig: &Rig, viewer: &Program, password: &str) -> Result<Picture, String> {
    let display = ok(rig, &["vncdisplay", "show"]);
    let file = rig.path("captured.png");
    let _ = std::fs::remove_file(&file);
    let mut command = viewer.command();
    command.arg(display.trim()).arg(&file);
    let mut terminal = Terminal::on(command);
    let asked = terminal.wait_for_either("Password:", "Unable to connect");
    if asked {
        terminal.type_hidden(format!("{password}\n").as_bytes());
    }
    let status = terminal.wait_for_the_end();
    match std::fs::read(&file) {
        Ok(file) if status.success() => Ok(Picture::of_png(&file).unwrap()),
        _ => Err(format!("{status}: {}", terminal.screen)),
    }
}

#[test]
fn a_viewer_of_debian_captures_what_a_screenshot_shows() {
    let viewer = match viewers::gvnccapture() {
        Ok(viewer) => viewer,
        Err(error) => return println!("SKIP: no gvnccapture: {error:#}"),
    };
    let Some(rig) = painted("", "<graphics type='vnc' port='-1' passwd='sesame'/>") else { return };
    let expected = screenshot(&rig);
    assert_eq!(captured(&rig, &viewer, "sesame"), Ok(expected));
    let refused = captured(&rig, &viewer, "open");
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn a_viewer_of_debian_comes_in_by_tls_with_its_certificate() {
    let viewer = match viewers::gvnccapture() {
        Ok(viewer) => viewer,
        Err(error) => return println!("SKIP: no gvnccapture: {error:#}"),
    };
    let certificates = Certificates::new().unwrap();
    let pki = tempfile::tempdir().unwrap();
    certificates.write(pki.path()).unwrap();
    let vnc = format!(
        "[vnc]\ntls = true\ntls_x509_verify = true\ntls_x509_cert_dir = {:?}\n",
        pki.path().display().to_string()
    );
    let graphics = "<graphics type='vnc' port='-1' passwd='sesame'/>";
    let Some(rig) = painted(&vnc, graphics) else { return };
    let expected = screenshot(&rig);
    let stranger = captured(&rig, &viewer, "sesame");
    assert!(stranger.is_err(), "{stranger:?}");
    if let Err(error) = with_home(&Program::installed("true"), Path::new("/tmp")) {
        return println!("SKIP: no certificates for the viewer: {error}");
    }
    // gtk-vnc's places for them.
    for (name, text) in [
        (".pki/CA/cacert.pem", &certificates.authority),
        (".pki/gvnccapture/clientcert.pem", &certificates.viewer.certificate),
        (".pki/gvnccapture/private/clientkey.pem", &certificates.viewer.key),
    ] {
        let path = rig.path("home").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let known = with_home(&viewer, &rig.path("home")).unwrap();
    assert_eq!(captured(&rig, &known, "sesame"), Ok(expected));
}

/// The program with another home, which the viewer looks up in the user database: root's in a namespace of its own.
fn with_home(program: &Program, home: &Path) -> Result<Program, String> {
    const ROOT: &str = "/root";
    if program.words().iter().any(|word| word.starts_with(ROOT)) {
        return Err(format!("the program lies below {ROOT}, where its home is to be"));
    }
    let script = "mount --bind \"$0\" /root && exec \"$@\"";
    let words = ["--map-root-user", "--mount", "sh", "-c", script, &home.display().to_string()];
    let words = words.map(str::to_owned).into_iter().chain(program.words().iter().cloned());
    let program = Program::installed("unshare").with(words);
    let output = program.command().arg("--help").output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(program).ok_or(said)
}

#[test]
fn a_browser_shows_the_guest_and_takes_what_is_typed() {
    let program = match browser::chromium() {
        Ok(program) => program,
        Err(error) => return println!("SKIP: no browser: {error:#}"),
    };
    // Free a moment ago; nobody else here listens on ports of their choice.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let api = format!("[api]\nlisten = \"127.0.0.1:{port}\"\nlisten_access = \"control\"\n");
    let Some(rig) = painted(&api, "<video><model type='vga'/></video>") else { return };
    let expected = screenshot(&rig);
    let url = format!("http://127.0.0.1:{port}/screen?domain=show");
    let mut browser = Browser::open(&program, &rig.path("profile"), &url, (800, 600)).unwrap();
    // The canvas has the guest's pixels, and the page shows them, scaled.
    let mut place = None;
    wait_for("the guest in the page", || {
        let size = "(c => c && [c.width, c.height])(document.querySelector('#screen canvas'))";
        let found = browser.evaluate(size).unwrap() == serde_json::json!([SIZE.0, SIZE.1]);
        if found {
            let rectangle = "(r => [r.x, r.y, r.width, r.height])\
                             (document.querySelector('#screen canvas').getBoundingClientRect())";
            place = serde_json::from_value::<[f64; 4]>(browser.evaluate(rectangle).unwrap()).ok();
        }
        found && place.is_some_and(|[_, _, width, _]| width > 100.0)
    });
    let [x, y, width, height] = place.unwrap();
    let mut seen = Vec::new();
    wait_for("the guest's colours", || {
        let picture = browser.screenshot().unwrap();
        let middle = |band: usize| {
            let down = y + height * (2.0 * band as f64 + 1.0) / 6.0;
            picture.at((x + width / 2.0) as usize, down as usize)
        };
        seen = (0..3).filter_map(middle).collect();
        seen == BANDS
    });
    let pixels = "Array.from(document.querySelector('#screen canvas').getContext('2d')\
                  .getImageData(0, 0, 320, 240).data)";
    let bytes: Vec<u8> = serde_json::from_value(browser.evaluate(pixels).unwrap()).unwrap();
    let colour = |pixel: &[u8]| u32::from_be_bytes([0, pixel[0], pixel[1], pixel[2]]);
    let drawn: Vec<u32> = bytes.chunks_exact(4).map(colour).collect();
    assert!(drawn == expected.pixels, "the canvas differs from the screenshot");
    // What is typed reaches the guest's keyboard.
    browser.evaluate("document.querySelector('#screen canvas').focus()").unwrap();
    browser.press("KeyA", "a", 65).unwrap();
    wait_for("the key", || serial_of(&rig).contains("0000001e\n0000009e\n"));
    ok(&rig, &["destroy", "show"]);
    wait_for("the page to say that the guest has ended", || {
        let said = browser.evaluate("document.getElementById('state').textContent").unwrap();
        said.as_str().is_some_and(|said| said.contains("ended"))
    });
}
