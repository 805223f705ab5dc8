//! Numbers of the RFB protocol (RFC 6143, and the community's rfbproto for what came since).

/// What a server says first; a client answers with the version it wants.
pub(super) const VERSION: &[u8; 12] = b"RFB 003.008\n";

pub(super) const SECURITY_NONE: u8 = 1;
pub(super) const SECURITY_VNC: u8 = 2;
pub(super) const SECURITY_VENCRYPT: u8 = 19;

/// VeNCrypt: the one version there is of use, major and minor.
pub(super) const VENCRYPT_VERSION: [u8; 2] = [0, 2];
pub(super) const VENCRYPT_VERSION_TAKEN: u8 = 0;
pub(super) const VENCRYPT_VERSION_REFUSED: u8 = 0xff;
pub(super) const VENCRYPT_SUBTYPE_TAKEN: u8 = 1;
pub(super) const VENCRYPT_SUBTYPE_REFUSED: u8 = 0;
/// TLS with the server's certificate, then what the name says. (Those without one, 257 to 259, are
/// anonymous Diffie-Hellman: anybody in between could read along.)
pub(super) const VENCRYPT_X509_NONE: u32 = 260;
pub(super) const VENCRYPT_X509_VNC: u32 = 261;

// Client to server.
pub(super) const SET_PIXEL_FORMAT: u8 = 0;
pub(super) const SET_ENCODINGS: u8 = 2;
pub(super) const UPDATE_REQUEST: u8 = 3;
pub(super) const KEY_EVENT: u8 = 4;
pub(super) const POINTER_EVENT: u8 = 5;
pub(super) const CUT_TEXT: u8 = 6;
pub(super) const SET_DESKTOP_SIZE: u8 = 251;
pub(super) const QEMU_MESSAGE: u8 = 255;
pub(super) const QEMU_KEY_EVENT: u8 = 0;

// Server to client.
pub(super) const UPDATE: u8 = 0;

// Encodings.
pub(super) const RAW: i32 = 0;
pub(super) const TIGHT: i32 = 7;
pub(super) const ZRLE: i32 = 16;
/// What a client can do, said as encodings.
pub(super) const DESKTOP_SIZE: i32 = -223;
pub(super) const POINTER_MOTION: i32 = -257;
pub(super) const QEMU_KEYS: i32 = -258;
pub(super) const EXTENDED_DESKTOP_SIZE: i32 = -308;
/// Answer to a wish for another size: the server's administrator forbids it.
pub(super) const RESIZE_PROHIBITED: u16 = 1;
/// Who a size comes from: the server, or this client.
pub(super) const RESIZE_BY_SERVER: u16 = 0;
pub(super) const RESIZE_BY_CLIENT: u16 = 1;

/// A viewer that counts pointer movements says each as the distance from here.
pub(super) const MOTION_CENTRE: i32 = 0x7fff;
