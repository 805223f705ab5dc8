//! The taking over: each piece by the way on which its own definition is stored.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use xml::{FilterDef, NetworkDef, PoolDef, SecretDef};

use super::ImportKind;
use crate::domain::DomainId;
use crate::domain::actor::blocking;
use crate::domain::handle::{Act, Definition};
use crate::error::{Code, Error};
use crate::jobs::Progress;
use crate::network::state::State;
use crate::network::{Network, NetworkRef};
use crate::ops::{claim_and_act, define_filter};
use crate::registry::Node;
use crate::secrets::{SecretRef, Secrets};
use crate::storage::PoolRef;

/// For one domain, unless the host is slow.
const SOON: Duration = Duration::from_secs(60);

/// One thing to do.
pub(crate) enum Deed {
    Secret { def: Box<SecretDef>, value: Option<Vec<u8>> },
    SecretValue { secret: SecretRef, value: Vec<u8> },
    Filter { def: Box<FilterDef> },
    Network { def: Box<NetworkDef>, autostart: bool, replaced: Option<Arc<Network>> },
    NetworkAutostart { uuid: Uuid },
    Pool { def: Box<PoolDef>, autostart: bool },
    PoolAutostart { uuid: Uuid },
    Domain { definition: Box<Definition>, variables: Option<VariablesCopy> },
}

/// Firmware variables, and where they are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VariablesCopy {
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
}

/// Do all of it, whatever becomes of a part: the error names what was not done.
pub(crate) async fn carry_out(
    node: Arc<Node>,
    secrets: Arc<Secrets>,
    deeds: Vec<(ImportKind, String, Deed)>,
    progress: Arc<Progress>,
) -> Result<(), Error> {
    let mut failed: Vec<(String, Error)> = Vec::new();
    let mut any_domain = false;
    for (kind, name, deed) in deeds {
        if progress.is_cancelled() {
            return Err(Error::new(Code::InvalidState, "it was cancelled"));
        }
        any_domain |= kind == ImportKind::Domain;
        match take_over(&node, &secrets, deed).await {
            Ok(()) => progress.add(1),
            Err(error) => {
                let what = format!("{} {name:?}", kind.name());
                tracing::warn!(what, error = %error.chain(), "was not taken over");
                failed.push((what, error));
            }
        }
    }
    if any_domain {
        // Nobody waits for that: it is for the day when they cannot be seen.
        drop(tokio::task::spawn_blocking(move || node.remember_images()));
    }
    let Some((_, first)) = failed.first() else { return Ok(()) };
    let code = first.code;
    let each: Vec<_> =
        failed.iter().map(|(what, error)| format!("{what}: {}", error.chain())).collect();
    Err(Error::new(code, format!("not taken over: {}", each.join("; "))))
}

async fn take_over(node: &Arc<Node>, secrets: &Arc<Secrets>, deed: Deed) -> Result<(), Error> {
    match deed {
        Deed::Secret { def, value } => {
            let secrets = secrets.clone();
            blocking(move || {
                let uuid = secrets.define(*def)?.uuid;
                value.map_or(Ok(()), |value| secrets.set_value(&SecretRef::Uuid(uuid), value))
            })
            .await
        }
        Deed::SecretValue { secret, value } => {
            let secrets = secrets.clone();
            blocking(move || secrets.set_value(&secret, value)).await
        }
        Deed::Filter { def } => {
            let node = node.clone();
            blocking(move || define_filter(&node, *def).map(drop)).await
        }
        Deed::Network { mut def, autostart, replaced } => {
            if let Some(replaced) = replaced {
                // After a crash here the document finds its name free.
                replaced.run(State::undefine).await?;
            }
            let network = node.networks.claim(&mut def)?;
            network
                .run(move |state| {
                    state.define(*def)?;
                    if autostart { state.set_autostart(true) } else { Ok(()) }
                })
                .await
        }
        Deed::NetworkAutostart { uuid } => {
            let network = node.networks.find(&NetworkRef::from(uuid))?;
            network.run(|state| state.set_autostart(true)).await
        }
        Deed::Pool { def, autostart } => {
            let pool = node.pools.claim(&def)?;
            pool.run(move |state| {
                state.define(*def)?;
                if autostart { state.set_autostart(true) } else { Ok(()) }
            })
            .await
        }
        Deed::PoolAutostart { uuid } => {
            let pool = node.pools.find(&PoolRef(uuid.to_string()))?;
            pool.run(|state| state.set_autostart(true)).await
        }
        Deed::Domain { definition, variables } => domain(node, *definition, variables).await,
    }
}

async fn domain(
    node: &Arc<Node>,
    definition: Definition,
    variables: Option<VariablesCopy>,
) -> Result<(), Error> {
    if let Some(VariablesCopy { from, to }) = variables {
        let broker = node.broker.clone();
        // Before the definition, and once: after a crash in between they are there, and complete.
        blocking(move || Ok(broker.make_variables(&to, Some(&from), false)?)).await?;
    }
    let domain = DomainId { uuid: definition.stored.uuid, name: definition.stored.name.clone() };
    let define = || Act::Define { definition: Box::new(definition.clone()), seed: None };
    claim_and_act(node, &domain, define, SOON).await
}
