//! Operations on pools.

use uuid::Uuid;
use xml::PoolDef;
use xml::storage::Bytes;

use crate::auth::{Access, Defines, Subject};
use crate::domain::actor::blocking;
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};
use crate::storage::{PoolRef, PoolView, State};
use crate::translate::invalid;

/// Which pools and volumes there can be, as XML (virConnectGetStoragePoolCapabilities).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetPoolCapabilities;

impl Operation for GetPoolCapabilities {
    type Output = String;
    const NAME: &'static str = "pool.capabilities";
    const ACCESS: Access = Access::Read;

    async fn run(self, _cx: &Context) -> Result<String, Error> {
        Ok(crate::storage::capabilities::describe())
    }
}

/// What pools of a kind could be made of on this host, as libvirt's `<sources>`
/// (virConnectFindStoragePoolSources).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindPoolSources {
    /// `logical`
    pub kind: String,
}

impl Operation for FindPoolSources {
    type Output = String;
    const NAME: &'static str = "pool.sources";
    // It looks at the host's disks.
    const ACCESS: Access = Access::Write;

    async fn run(self, cx: &Context) -> Result<String, Error> {
        if self.kind != "logical" {
            let text = format!(
                "sources of pools of type {:?} are not looked for; those of \"logical\" are",
                self.kind
            );
            return Err(Error::new(Code::Unsupported, text));
        }
        let broker = cx.node.broker.clone();
        blocking(move || crate::storage::group::sources(&broker.volume_groups()?)).await
    }
}

/// Store the definition of a pool (virStoragePoolDefineXML).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinePool {
    /// libvirt pool XML.
    pub xml: String,
}

impl Operation for DefinePool {
    type Output = PoolView;
    const NAME: &'static str = "pool.define";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        defined(&self.xml)
    }

    async fn run(self, cx: &Context) -> Result<PoolView, Error> {
        let def = read(&self.xml)?;
        let pool = cx.node.pools.claim(&def)?;
        pool.run(|state| state.define(def)).await?;
        Ok(pool.view())
    }
}

/// Start a pool without storing its definition (virStoragePoolCreateXML).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatePool {
    pub xml: String,
    /// Make its directory first.
    pub build: bool,
}

impl Operation for CreatePool {
    type Output = PoolView;
    const NAME: &'static str = "pool.create";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        defined(&self.xml)
    }

    async fn run(self, cx: &Context) -> Result<PoolView, Error> {
        let def = read(&self.xml)?;
        let pool = cx.node.pools.claim(&def)?;
        if pool.view().persistent || pool.view().active {
            let text = format!("there is a pool {:?} already", pool.view().name);
            return Err(Error::new(Code::Exists, text));
        }
        let build = self.build;
        pool.run(move |state| state.start(build)).await?;
        Ok(pool.view())
    }
}

pub(super) fn about(pool: &PoolRef) -> Subject<'_> {
    Subject::Other("pool", pool.0.as_str().into())
}

fn defined(xml: &str) -> Subject<'_> {
    Subject::Definition(Defines::Pool, xml)
}

fn read(text: &str) -> Result<PoolDef, Error> {
    let mut def = PoolDef::parse(text).map_err(invalid)?.value;
    def.fill_defaults(Uuid::new_v4);
    Ok(def)
}

/// All pools, by name, as they were last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPools;

impl Operation for ListPools {
    type Output = Vec<PoolView>;
    const NAME: &'static str = "pool.list";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<Vec<PoolView>, Error> {
        Ok(cx.node.pools.views())
    }
}

/// One pool, with the space that it has now (virStoragePoolGetInfo).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribePool {
    pub pool: PoolRef,
}

impl Operation for DescribePool {
    type Output = PoolView;
    const NAME: &'static str = "pool.describe";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        about(&self.pool)
    }

    async fn run(self, cx: &Context) -> Result<PoolView, Error> {
        let pool = cx.node.pools.find(&self.pool)?;
        pool.run(State::catch_up).await?;
        Ok(pool.view())
    }
}

/// The definition as XML (virStoragePoolGetXMLDesc), with the space of an active pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpPoolXml {
    pub pool: PoolRef,
    pub inactive: bool,
}

impl Operation for DumpPoolXml {
    type Output = String;
    const NAME: &'static str = "pool.dump-xml";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        about(&self.pool)
    }

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let now = cx.node.pools.find(&self.pool)?.now();
        let (mut def, view) = (now.def.clone(), &now.view);
        if !self.inactive {
            def.capacity = Some(Bytes(view.capacity));
            def.allocation = Some(Bytes(view.allocation));
            def.available = Some(Bytes(view.available));
        }
        Ok(def.to_xml())
    }
}

/// What is done to a pool as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolAction {
    /// Make its directory.
    Build,
    Start {
        /// Make its directory first.
        build: bool,
    },
    /// Look again at everything in it.
    Refresh,
    /// virStoragePoolDestroy: its volumes stay where they are.
    Stop,
    /// Remove its directory, in which nothing may be left.
    Delete,
    Undefine,
    SetAutostart(bool),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePool {
    pub pool: PoolRef,
    pub action: PoolAction,
}

impl Operation for ChangePool {
    type Output = ();
    const NAME: &'static str = "pool.change";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.pool)
    }

    fn detail(&self) -> &'static str {
        match self.action {
            PoolAction::Build => "build",
            PoolAction::Start { .. } => "start",
            PoolAction::Refresh => "refresh",
            PoolAction::Stop => "stop",
            PoolAction::Delete => "delete",
            PoolAction::Undefine => "undefine",
            PoolAction::SetAutostart(true) => "autostart",
            PoolAction::SetAutostart(false) => "no autostart",
        }
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let pool = cx.node.pools.find(&self.pool)?;
        let action = self.action;
        pool.run(move |state| match action {
            PoolAction::Build => state.build(),
            PoolAction::Start { build } => state.start(build),
            PoolAction::Refresh => state.refresh(),
            PoolAction::Stop => state.stop(),
            PoolAction::Delete => state.delete(),
            PoolAction::Undefine => state.undefine(),
            PoolAction::SetAutostart(autostart) => state.set_autostart(autostart),
        })
        .await
    }
}
