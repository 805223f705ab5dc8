//! `<graphics>`: how the guest's display is reached.

use std::path::PathBuf;

use crate::element::{choice, element};
use crate::value::{YesNo, names};

names! {
    pub enum SharePolicy { AllowExclusive = "allow-exclusive", ForceShared = "force-shared", Ignore = "ignore" }
    pub enum Connected { Keep = "keep", Fail = "fail", Disconnect = "disconnect" }
    pub enum SpiceMode { Any = "any", Secure = "secure", Insecure = "insecure" }
    pub enum SpiceChannelName {
        Main = "main", Display = "display", Inputs = "inputs", Cursor = "cursor", Playback = "playback",
        Record = "record", Smartcard = "smartcard", UsbRedir = "usbredir",
    }
    pub enum ImageCompression {
        AutoGlz = "auto_glz", AutoLz = "auto_lz", Quic = "quic", Glz = "glz", Lz = "lz", Off = "off",
    }
    pub enum WanCompression { Auto = "auto", Never = "never", Always = "always" }
    pub enum Playback { On = "on", Off = "off" }
    pub enum Streaming { Filter = "filter", All = "all", Off = "off" }
    pub enum MouseMode { Server = "server", Client = "client" }
}

choice! {
    pub enum Graphics by "type" {
        Vnc(Vnc) = "vnc",
        Spice(Spice) = "spice",
        Sdl(Sdl) = "sdl",
        Rdp(Rdp) = "rdp",
        Desktop(Desktop) = "desktop",
        EglHeadless(EglHeadless) = "egl-headless",
        Dbus(Dbus) = "dbus",
    }
}

element! {
    /// Port -1 (or `autoport`) lets the manager choose.
    #[derive(Default)]
    pub struct Vnc {
        attr socket: Option<PathBuf>,
        attr port: Option<i32>,
        attr autoport: Option<YesNo>,
        attr websocket: Option<i32>,
        attr listen: Option<String>,
        attr keymap: Option<String>,
        attr("sharePolicy") share_policy: Option<SharePolicy>,
        attr("powerControl") power_control: Option<YesNo>,
        attr("passwd") password: Option<String>,
        attr("passwdValidTo") password_valid_to: Option<String>,
        attr connected: Option<Connected>,
        child("listen") listens: Vec<Listen>,
        leaf("audio" "id") audio: Option<u32>,
    }
}

element! {
    #[derive(Default)]
    pub struct Spice {
        attr port: Option<i32>,
        attr("tlsPort") tls_port: Option<i32>,
        attr autoport: Option<YesNo>,
        attr listen: Option<String>,
        attr keymap: Option<String>,
        attr("defaultMode") default_mode: Option<SpiceMode>,
        attr("passwd") password: Option<String>,
        attr("passwdValidTo") password_valid_to: Option<String>,
        attr connected: Option<Connected>,
        child("listen") listens: Vec<Listen>,
        child("channel") channels: Vec<SpiceChannel>,
        leaf("image" "compression") image: Option<ImageCompression>,
        leaf("jpeg" "compression") jpeg: Option<WanCompression>,
        leaf("zlib" "compression") zlib: Option<WanCompression>,
        leaf("playback" "compression") playback: Option<Playback>,
        leaf("streaming" "mode") streaming: Option<Streaming>,
        leaf("mouse" "mode") mouse: Option<MouseMode>,
        leaf("clipboard" "copypaste") clipboard: Option<YesNo>,
        leaf("filetransfer" "enable") file_transfer: Option<YesNo>,
        child gl: Option<Gl>,
    }
}

element! {
    pub struct SpiceChannel {
        attr name: SpiceChannelName,
        attr mode: SpiceMode,
    }
}

element! {
    #[derive(Default)]
    pub struct Gl {
        attr enable: Option<YesNo>,
        attr rendernode: Option<PathBuf>,
    }
}

choice! {
    pub enum Listen by "type" {
        Address(ListenAddress) = "address",
        Network(ListenNetwork) = "network",
        Socket(ListenSocket) = "socket",
        None(ListenNone) = "none",
    }
}

element! {
    #[derive(Default)]
    pub struct ListenAddress {
        attr address: Option<String>,
    }
}

element! {
    pub struct ListenNetwork {
        attr network: String,
        attr address: Option<String>,
    }
}

element! {
    #[derive(Default)]
    pub struct ListenSocket {
        attr socket: Option<PathBuf>,
    }
}

element! {
    #[derive(Default)]
    pub struct ListenNone {}
}

element! {
    #[derive(Default)]
    pub struct Sdl {
        attr display: Option<String>,
        attr xauth: Option<PathBuf>,
        attr fullscreen: Option<YesNo>,
        leaf("gl" "enable") gl: Option<YesNo>,
    }
}

element! {
    #[derive(Default)]
    pub struct Rdp {
        attr port: Option<i32>,
        attr autoport: Option<YesNo>,
        attr("replaceUser") replace_user: Option<YesNo>,
        attr("multiUser") multi_user: Option<YesNo>,
        attr listen: Option<String>,
        child("listen") listens: Vec<Listen>,
    }
}

element! {
    #[derive(Default)]
    pub struct Desktop {
        attr display: Option<String>,
        attr fullscreen: Option<YesNo>,
    }
}

element! {
    #[derive(Default)]
    pub struct EglHeadless {
        leaf("gl" "rendernode") gl: Option<PathBuf>,
    }
}

element! {
    #[derive(Default)]
    pub struct Dbus {
        attr p2p: Option<YesNo>,
        attr address: Option<String>,
        child gl: Option<Gl>,
        leaf("audio" "id") audio: Option<u32>,
    }
}
