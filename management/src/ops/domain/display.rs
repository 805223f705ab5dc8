//! A guest's screen and its keyboard.

use std::os::fd::OwnedFd;
use std::time::Duration;

use broker::CONTROL_SOCKET;
use rustix::net::SocketType;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use vmm_protocol::control::{Codeset, Request};

use crate::auth::{Access, Subject};
use crate::control::{Vmm, open_stream};
use crate::domain::DomainRef;
use crate::domain::actor::vmm_error;
use crate::domain::handle::{Live, View};
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};
use crate::translate;
use crate::{key_codes, keys};

const WAIT: Duration = Duration::from_secs(5);
/// For a picture to be drawn, packed and sent.
const PICTURE_WAIT: Duration = Duration::from_secs(20);
/// More than the largest screen that does not pack at all.
const MOST_PICTURE: u64 = 64 << 20;
/// libvirt's bound on keys that are pressed at once.
const MOST_KEYS: usize = 16;
const MOST_HOLD: Duration = Duration::from_secs(10);

/// A picture of what a guest shows (virDomainScreenshot), as a PNG file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeScreenshot {
    pub domain: DomainRef,
}

impl Operation for TakeScreenshot {
    type Output = Vec<u8>;
    const NAME: &'static str = "domain.screenshot";
    // A screen may show anything, as a console may.
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<u8>, Error> {
        let view = cx.find(&self.domain)?.view();
        let id = card(&view, live(&view)?)?;
        let stream = connect(&view, Request::Screenshot { id }).await?;
        let mut stream = stream.take(MOST_PICTURE);
        let mut picture = Vec::new();
        let read = tokio::time::timeout(PICTURE_WAIT, stream.read_to_end(&mut picture)).await;
        match read {
            Ok(Ok(_)) if !picture.is_empty() => Ok(picture),
            _ => {
                let text = format!("the VMM of domain {:?} sends no picture", view.name);
                Err(Error::new(Code::VmmUnreachable, text))
            }
        }
    }
}

/// Look at a guest's screen and work at it (virDomainOpenGraphicsFD): the bytes of an RFB
/// connection without a password, since the caller proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenViewer {
    pub domain: DomainRef,
}

impl Operation for OpenViewer {
    type Output = UnixStream;
    const NAME: &'static str = "domain.open-viewer";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<UnixStream, Error> {
        let view = cx.find(&self.domain)?.view();
        let id = card(&view, live(&view)?)?;
        connect(&view, Request::Viewer { id }).await
    }
}

/// Serve a viewer at the other end of a socket that it gave (virDomainOpenGraphics), without a password as well. The
/// VMM itself holds it, so that it outlives this daemon.
#[derive(Debug)]
pub struct AddViewer {
    pub domain: DomainRef,
    /// None came from who may not bring one, and is asked for after who asks.
    pub socket: Option<OwnedFd>,
}

impl Operation for AddViewer {
    type Output = ();
    const NAME: &'static str = "domain.add-viewer";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let view = cx.find(&self.domain)?.view();
        let id = card(&view, live(&view)?)?;
        let is_stream =
            |socket: &OwnedFd| rustix::net::sockopt::socket_type(socket) == Ok(SocketType::STREAM);
        let Some(socket) = self.socket.filter(is_stream) else {
            let text = "a viewer comes with one end of a stream socket, as of socketpair(2)";
            return Err(Error::new(Code::InvalidArgument, text));
        };
        let path = live(&view)?.run_dir.join(CONTROL_SOCKET);
        let add = async {
            // By a connection of its own: a VMM from before an update ends that by which it is asked what it does not know.
            let (vmm, ..) = Vmm::connect(&path, WAIT).await?;
            vmm.tell_with(Request::AddViewer { id }, vec![socket], WAIT).await
        };
        add.await.map_err(|error| vmm_error(&view.name, error))
    }
}

/// Press keys of a guest's keyboard together, and let them go (virDomainSendKey).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendKeys {
    pub domain: DomainRef,
    /// Names (`KEY_LEFTCTRL`) or numbers.
    pub keys: Vec<String>,
    /// What numbers are: `linux`, `xt`, `qnum` …; names are Linux's.
    pub codeset: String,
    pub hold: Duration,
}

impl Operation for SendKeys {
    type Output = ();
    const NAME: &'static str = "domain.send-keys";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let (codes, codeset) = self.codes()?;
        let view = cx.find(&self.domain)?.view();
        live(&view)?;
        let Some(vmm) = view.vmm.clone() else {
            let text = format!("the VMM of domain {:?} does not answer", view.name);
            return Err(Error::new(Code::VmmUnreachable, text));
        };
        let tell = async |codes: Vec<u16>, down| {
            let told = vmm.tell(Request::Keys { codes, codeset, down }, WAIT).await;
            told.map_err(|error| vmm_error(&view.name, error))
        };
        tell(codes.clone(), true).await?;
        tokio::time::sleep(self.hold).await;
        tell(codes.into_iter().rev().collect(), false).await
    }
}

impl SendKeys {
    fn codes(&self) -> Result<(Vec<u16>, Codeset), Error> {
        let invalid = |text: String| Error::new(Code::InvalidArgument, text);
        let codeset = match self.codeset.as_str() {
            "linux" => Codeset::Linux,
            "xt" | "atset1" | "qnum" | "rfb" => Codeset::Xt,
            set if key_codes::is_set(set) => Codeset::Linux,
            other => {
                return Err(invalid(format!(
                    "there is no codeset {other:?}; there are linux, xt, atset1, atset2, atset3, os_x, \
                     xt_kbd, usb, win32, qnum and rfb"
                )));
            }
        };
        if self.keys.is_empty() || self.keys.len() > MOST_KEYS {
            let text = format!("{} keys: one to {MOST_KEYS} can be pressed", self.keys.len());
            return Err(invalid(text));
        }
        if self.hold > MOST_HOLD {
            let text = format!("keys can be held for {} s at most", MOST_HOLD.as_secs());
            return Err(invalid(text));
        }
        let code = |key: &String| {
            let number = match key_codes::is_set(&self.codeset) {
                true => keys::number(key).and_then(|code| key_codes::key(&self.codeset, code)),
                false => keys::number(key),
            };
            let named = || keys::code(key).filter(|_| codeset == Codeset::Linux);
            number.or_else(named).ok_or_else(|| {
                let near = keys::near(key).map(|near| format!("; did you mean {near}?"));
                invalid(format!("there is no key {key:?}{}", near.unwrap_or_default()))
            })
        };
        Ok((self.keys.iter().map(code).collect::<Result<_, _>>()?, codeset))
    }
}

fn live(view: &View) -> Result<&Live, Error> {
    view.live.as_deref().ok_or_else(|| {
        Error::new(Code::InvalidState, format!("domain {:?} is not running", view.name))
    })
}

/// The alias of a running domain's graphics card.
fn card(view: &View, live: &Live) -> Result<String, Error> {
    let def = translate::with_aliases(&live.def);
    let card = translate::display::card(&def.devices).and_then(|video| video.alias.clone());
    card.ok_or_else(|| {
        let text = format!("domain {:?} has no graphics card, and so no screen", view.name);
        Error::new(Code::DeviceNotFound, text)
    })
}

async fn connect(view: &View, request: Request) -> Result<UnixStream, Error> {
    let path = live(view)?.run_dir.join(CONTROL_SOCKET);
    open_stream(&path, request, WAIT).await.map_err(|error| vmm_error(&view.name, error))
}
