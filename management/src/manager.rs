//! [`Manager`]: the one door. Every front end builds an [`Operation`] and passes it to
//! [`Manager::call`], which authorises, traces and runs it.

use std::future::Future;
use std::sync::Arc;

use tracing::Instrument as _;

use crate::auth::{Access, Caller};
use crate::config::Config;
use crate::error::{Code, Error};

/// One thing a caller can ask for. Its fields are the arguments.
pub trait Operation: Send {
    type Output: Send;
    /// For logs and traces (`domain.start`).
    const NAME: &'static str;
    const ACCESS: Access;
    fn run(self, cx: &Context) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// The management plane of one node; clones share it.
#[derive(Clone)]
pub struct Manager {
    cx: Arc<Context>,
}

/// What operations work with.
pub struct Context {
    pub(crate) config: Config,
}

impl Manager {
    /// Open the store and adopt the domains that run. Nothing is started; see
    /// [`autostart`](Self::autostart).
    pub async fn open(config: Config) -> Result<Self, Error> {
        std::future::ready(()).await;
        Ok(Self { cx: Arc::new(Context { config }) })
    }

    /// Start what is marked autostart, once for each boot of the host.
    pub async fn autostart(&self) {
        std::future::ready(()).await;
    }

    pub async fn call<O: Operation>(&self, caller: &Caller, op: O) -> Result<O::Output, Error> {
        authorise(caller, O::NAME, O::ACCESS)?;
        let span = tracing::info_span!("call", op = O::NAME, caller = %caller.name);
        async {
            let result = op.run(&self.cx).await;
            match &result {
                Ok(_) => tracing::debug!("done"),
                Err(error) if error.code == Code::Internal => {
                    tracing::error!(error = %error.chain(), "failed");
                }
                Err(error) => tracing::info!(code = %error.code, error = %error.chain(), "refused"),
            }
            result
        }
        .instrument(span)
        .await
    }

    #[must_use]
    pub fn config(&self) -> &Config {
        &self.cx.config
    }
}

fn authorise(caller: &Caller, operation: &str, needed: Access) -> Result<(), Error> {
    if caller.access >= needed {
        return Ok(());
    }
    tracing::warn!(caller = %caller.name, operation, "denied");
    Err(Error::new(
        Code::Denied,
        format!(
            "{operation} needs {} access, and this connection grants {} access",
            needed.name(),
            caller.access.name()
        ),
    ))
}

impl Context {
    pub(crate) fn pending<T>(&self) -> Result<T, Error> {
        Err(Error::new(Code::Unsupported, "this operation is being built"))
    }
}
