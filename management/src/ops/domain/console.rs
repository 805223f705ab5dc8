//! A guest's console as a stream of bytes.

use crate::auth::{Access, Subject};
use std::time::Duration;

use broker::CONTROL_SOCKET;
use xml::DomainDef;

use crate::control::open_console;
use crate::domain::DomainRef;
use crate::domain::actor::vmm_error;
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};
use crate::translate;

const WAIT: Duration = Duration::from_secs(5);

/// An open console: raw bytes both ways, beginning with the recent output. Dropping it detaches.
#[derive(Debug)]
pub struct Console {
    /// The device it is (`serial0`).
    pub device: String,
    pub stream: tokio::net::UnixStream,
}

/// Attach to a console (virDomainOpenConsole).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenConsole {
    pub domain: DomainRef,
    /// Alias (`serial0`, `console1`) or channel name; the first console if none.
    pub device: Option<String>,
    /// Throw out whoever has it.
    pub force: bool,
    /// Begin with the recent output.
    pub replay: bool,
}

impl Operation for OpenConsole {
    type Output = Console;
    const NAME: &'static str = "domain.open-console";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Console, Error> {
        let view = cx.find(&self.domain)?.view();
        let Some(live) = &view.live else {
            let text = format!("domain {:?} is not running", view.name);
            return Err(Error::new(Code::InvalidState, text));
        };
        let known = consoles(&live.def);
        let device = match &self.device {
            None => known.first().cloned().ok_or_else(|| {
                let text = format!("domain {:?} has no console", view.name);
                Error::new(Code::DeviceNotFound, text)
            })?,
            Some(wanted) => resolve(&live.def, &known, wanted).ok_or_else(|| {
                let known = known.join(", ");
                let text =
                    format!("domain {:?} has no console {wanted:?}; it has {known}", view.name);
                Error::new(Code::DeviceNotFound, text)
            })?,
        };
        let path = live.run_dir.join(CONTROL_SOCKET);
        let opened = open_console(&path, &device, self.replay, self.force, WAIT).await;
        match opened {
            Ok(stream) => Ok(Console { device, stream }),
            Err(error) => {
                let mut error = vmm_error(&view.name, error);
                if error.code == Code::Busy {
                    error.message.push_str("; use force to take it over");
                }
                Err(error)
            }
        }
    }
}

/// Aliases of what can be attached to: serial ports, consoles, channels. The first is the default.
pub(crate) fn consoles(def: &DomainDef) -> Vec<String> {
    let def = translate::with_aliases(def);
    let devices = &def.devices;
    let serials = devices.serials.iter().map(|serial| serial.alias.clone());
    let virtio = devices.consoles.iter().filter(|console| translate::is_virtio(console));
    let consoles = virtio.map(|console| console.alias.clone());
    let provided = devices.channels.iter().filter(|c| translate::machine_devices::provided(c));
    let channels = provided.map(|channel| channel.alias.clone());
    serials.chain(consoles).chain(channels).flatten().collect()
}

/// An alias, `console0` for whatever the first console is, or the name of a channel.
fn resolve(def: &DomainDef, known: &[String], wanted: &str) -> Option<String> {
    if known.iter().any(|alias| alias == wanted) {
        return Some(wanted.to_owned());
    }
    if wanted == "console0" {
        return known.first().cloned();
    }
    let named = def.devices.channels.iter().find(|c| c.target.name.as_deref() == Some(wanted));
    named.and_then(|channel| channel.alias.clone())
}
