//! A guest's console as a stream of bytes.

use crate::auth::Access;
use crate::domain::DomainRef;
use crate::error::Error;
use crate::manager::{Context, Operation};

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

    async fn run(self, cx: &Context) -> Result<Console, Error> {
        cx.pending()
    }
}
