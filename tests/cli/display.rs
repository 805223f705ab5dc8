//! A guest's screen: VNC where the definition puts it, pictures, keys, and a browser's way in.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use baremetal::Width;
use manor_tests::rfb::{self, Viewer};
use manor_tests::vencrypt::{self, Certificates};

use super::guests::ok;
use super::rig::{Outcome, Rig, wait_for};

const ATTRIBUTE: u16 = 0x3c0;
const DISPI: u16 = 0x1ce;
const I8042: u16 = 0x64;

/// Shows a row of red pixels, switches the keyboard on, and prints every scan code that it reads.
fn showing_guest() -> Vec<u8> {
    baremetal::pvh(|asm| {
        for (index, value) in [(1, 64), (2, 48), (3, 32), (4, 0x41)] {
            asm.out(Width::Word, DISPI, index).out(Width::Word, DISPI + 1, value);
        }
        asm.out(Width::Byte, ATTRIBUTE, 0x20);
        asm.pci_read(1, 0, 0x10).and_eax(!0xf);
        asm.raw(&[0x89, 0xc7, 0xb9, 64, 0, 0, 0]); // mov edi, eax; mov ecx, 64
        asm.set_eax(0xff_0000).raw(&[0xf3, 0xab]); // rep stosd
        asm.out(Width::Byte, I8042, 0xae).print("ready\n");
        let poll = asm.here();
        asm.read_port(Width::Byte, I8042).and_eax(1).jump_if_eax_is(0, poll);
        asm.read_port(Width::Byte, 0x60).print_eax().print("\n").jump(poll);
    })
}

pub(crate) fn started(graphics: &str) -> Option<Rig> {
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        println!("SKIP: /dev/kvm cannot be opened");
        return None;
    }
    let rig = Rig::new();
    let created = create(&rig, graphics);
    assert_eq!((created.status, created.err.as_str()), (0, ""));
    wait_for("the guest", || serial_of(&rig).contains("ready"));
    Some(rig)
}

fn create(rig: &Rig, graphics: &str) -> Outcome {
    rig.write("kernel", showing_guest());
    let uuid = uuid::Uuid::new_v4();
    let [kernel, serial] = ["kernel", "serial"].map(|name| rig.path(name).display().to_string());
    let xml = format!(
        "<domain type='kvm'><name>show</name><uuid>{uuid}</uuid><memory unit='MiB'>32</memory>\
         <vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel>\
         </os><devices><serial type='file'><source path='{serial}'/></serial>{graphics}\
         </devices></domain>"
    );
    rig.write("show.xml", xml);
    rig.manor(["create", "show.xml"])
}

fn serial_of(rig: &Rig) -> String {
    std::fs::read_to_string(rig.path("serial")).unwrap_or_default()
}

/// See the row of red pixels.
fn look<S: Read + Write>(viewer: &mut Viewer<S>) {
    viewer.set_encodings(&[rfb::TIGHT, rfb::DESKTOP_SIZE]).unwrap();
    while (viewer.width, viewer.height) != (64, 48) || viewer.pixels[63] != 0xff_0000 {
        viewer.request(true).unwrap();
        viewer.update().unwrap();
    }
}

#[test]
fn viewers_find_the_port_in_the_live_definition_and_need_the_password() {
    let graphics = "<graphics type='vnc' port='-1' passwd='sesame'/>";
    let Some(rig) = started(graphics) else { return };
    let xml = ok(&rig, &["dumpxml", "show"]);
    assert!(xml.contains("autoport='yes' listen='127.0.0.1'"), "{xml}");
    assert!(!xml.contains("sesame"), "{xml}");
    let display = ok(&rig, &["vncdisplay", "show"]);
    let number: u16 = display.trim().strip_prefix("127.0.0.1:").unwrap().parse().unwrap();
    assert_eq!(ok(&rig, &["domdisplay", "show"]).trim(), format!("vnc://127.0.0.1:{number}"));
    let secret = ok(&rig, &["domdisplay", "show", "--include-password"]);
    assert_eq!(secret.trim(), format!("vnc://:sesame@127.0.0.1:{number}"));
    assert!(xml.contains(&format!("port='{}'", 5900 + number)), "{xml}");
    let connect = || TcpStream::connect(("127.0.0.1", 5900 + number)).unwrap();
    assert!(Viewer::connect(connect(), Some("open")).is_err());
    let mut viewer = Viewer::connect(connect(), Some("sesame")).unwrap();
    assert_eq!(viewer.name, "show");
    look(&mut viewer);
    viewer.key('a'.into(), true).unwrap();
    viewer.key('a'.into(), false).unwrap();
    wait_for("the key", || serial_of(&rig).contains("0000001e\n0000009e\n"));
}

#[test]
fn viewers_come_in_by_tls_with_the_certificates_of_the_configured_directory() {
    let mut rig = Rig::without_daemon();
    let config = std::fs::read_to_string(rig.path("manor.toml")).unwrap();
    let pki = rig.path("pki");
    let vnc = format!("[vnc]\ntls = true\ntls_x509_cert_dir = {:?}\n", pki.display().to_string());
    rig.write("manor.toml", config + &vnc);
    rig.start_daemon();
    let graphics = "<graphics type='vnc' port='-1' passwd='sesame'/>";
    let certificates = Certificates::new().unwrap();

    let missing = create(&rig, graphics).err;
    let path = pki.join("server-cert.pem").display().to_string();
    assert!(
        missing.contains(&format!("VNC server's certificate {path} does not exist")),
        "{missing}"
    );
    certificates.write(&pki).unwrap();
    rig.write("pki/server-key.pem", "not a key");
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        println!("SKIP: /dev/kvm cannot be opened");
        return;
    }
    let bad = create(&rig, graphics).err;
    assert!(bad.contains("the server's key cannot be read"), "{bad}");

    certificates.write(&pki).unwrap();
    let created = create(&rig, graphics);
    assert_eq!((created.status, created.err.as_str()), (0, ""));
    let display = ok(&rig, &["vncdisplay", "show"]);
    let number: u16 = display.trim().strip_prefix("127.0.0.1:").unwrap().parse().unwrap();
    let connect = || TcpStream::connect(("127.0.0.1", 5900 + number)).unwrap();
    assert!(Viewer::connect(connect(), Some("sesame")).is_err(), "without TLS");
    look(&mut vencrypt::connect(connect(), &certificates, false, Some("sesame")).unwrap());
    // Callers of the API are in already.
    look(&mut Viewer::connect(WebSocket::open(&rig, "/v1/domains/show/vnc"), None).unwrap());
}

#[test]
fn a_socket_is_where_the_definition_says_or_among_the_domains_own() {
    let graphics = "<graphics type='vnc'><listen type='socket'/></graphics>";
    let Some(rig) = started(graphics) else { return };
    let display = ok(&rig, &["domdisplay", "show"]);
    let path = display.trim().strip_prefix("vnc+unix://").unwrap();
    look(&mut Viewer::connect(UnixStream::connect(path).unwrap(), None).unwrap());
}

#[test]
fn a_guest_without_vnc_shows_itself_through_the_api() {
    let Some(rig) = started("<video><model type='vga'/></video>") else { return };
    let none = rig.virsh(["vncdisplay", "show"]);
    assert_eq!(none.err, "error: Failed to get VNC port. Is this domain using VNC?\n");
    let said = ok(&rig, &["screenshot", "show", "picture.png"]);
    assert_eq!(said, "Screenshot saved to picture.png, with type of image/png\n\n");
    let picture = std::fs::read(rig.path("picture.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"));
    assert_eq!(picture[16..24], [0, 0, 0, 64, 0, 0, 0, 48], "width and height");

    ok(&rig, &["send-key", "show", "KEY_LEFTCTRL", "KEY_C"]);
    let expected = ["1d", "2e", "ae", "9d"].map(|code| format!("000000{code}\n")).concat();
    wait_for("the keys", || serial_of(&rig).contains(&expected));
    ok(&rig, &["send-key", "show", "--codeset", "xt", "--holdtime", "1", "0x1c"]);
    wait_for("Enter", || serial_of(&rig).contains("0000001c\n0000009c\n"));
    let wrong = rig.manor(["send-key", "show", "leftctrl"]);
    assert!(wrong.err.contains("did you mean KEY_LEFTCTRL?"), "{}", wrong.err);

    let socket = WebSocket::open(&rig, "/v1/domains/show/vnc");
    look(&mut Viewer::connect(socket, None).unwrap());
}

/// A browser's side of a WebSocket (RFC 6455), for whole frames.
struct WebSocket {
    stream: UnixStream,
    /// What is left of the frame read last.
    rest: Vec<u8>,
}

impl WebSocket {
    fn open(rig: &Rig, path: &str) -> Self {
        let mut stream = UnixStream::connect(rig.path("run/api.sock")).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: binary\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains("sec-websocket-protocol: binary"), "{head}");
        Self { stream, rest: Vec::new() }
    }
}

impl Read for WebSocket {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head)?;
            let length = match head[1] {
                126 => {
                    let mut length = [0; 2];
                    self.stream.read_exact(&mut length)?;
                    u16::from_be_bytes(length).into()
                }
                127 => {
                    let mut length = [0; 8];
                    self.stream.read_exact(&mut length)?;
                    usize::try_from(u64::from_be_bytes(length)).unwrap()
                }
                short => usize::from(short),
            };
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload)?;
            if head[0] & 0xf == 2 {
                self.rest = payload;
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Ok(count)
    }
}

impl Write for WebSocket {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let data = &data[..data.len().min(125)];
        // Masked, as clients must; with zeros, which change nothing.
        let frame = [&[0x82, 0x80 | data.len() as u8, 0, 0, 0, 0], data].concat();
        self.stream.write_all(&frame)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}
