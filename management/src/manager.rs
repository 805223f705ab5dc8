//! [`Manager`]: the one door. Every front end builds an [`Operation`] and passes it to
//! [`Manager::call`], which authorises, traces and runs it.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Local};
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::agent;
use crate::audit::Audit;
use crate::auth::tokens::{Bearer, Tokens};
use crate::auth::users::{Login, Users};
use crate::auth::{Access, Caller, Scope, ScramError, Subject, Via};
use crate::autostart::{self, Progress};
use crate::checkpoints::Checkpoints;
use crate::cloud_init::{CloudInit, Seeds};
use crate::config::Config;
use crate::device_watch::DeviceWatch;
use crate::domain::DomainRef;
use crate::domain::actor::{Begin, blocking};
use crate::domain::channels::Frozen;
use crate::domain::handle::{Act, Definition, Handle};
use crate::domain::record::Record;
use crate::error::{Code, Error};
use crate::filters::Filters;
use crate::host::{Driver, Host};
use crate::jobs::Jobs;
use crate::journal::Journal;
use crate::network::{self, Networks};
use crate::registry::{Node, Parts};
use crate::secrets::Secrets;
use crate::snapshots::Snapshots;
use crate::storage::{Found, Pools};
use crate::store::{Contents, Disk, Store};
use crate::translate;

/// One thing a caller can ask for. Its fields are the arguments.
pub trait Operation: Send {
    type Output: Send;
    /// For logs and traces (`domain.start`).
    const NAME: &'static str;
    const ACCESS: Access;

    /// What it is about. Where this is not said, callers that are confined to domains may not.
    fn subject(&self) -> Subject<'_> {
        Subject::Node
    }

    /// Which of several things it does, for the audit log, where its name does not tell.
    fn detail(&self) -> &'static str {
        ""
    }

    /// Whether it stands in the audit log also when it was not refused.
    fn is_audited(&self) -> bool {
        Self::ACCESS > Access::Read
    }

    /// What a caller that is confined to domains sees of the answer to a question about
    /// [`Subject::Domains`]; none: nothing.
    fn narrow(_output: Self::Output, _scope: &Scope) -> Option<Self::Output> {
        None
    }

    fn run(self, cx: &Context) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// The management plane of one node; clones share it.
#[derive(Clone)]
pub struct Manager {
    cx: Arc<Context>,
}

/// What operations work with.
pub struct Context {
    pub(crate) node: Arc<Node>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) users: Arc<Users>,
    pub(crate) secrets: Arc<Secrets>,
    /// Definitions that could not be read, and what does not work now.
    pub(crate) quarantined: Vec<(String, String)>,
    pub(crate) degraded: Vec<String>,
    /// How far this boot's starts had come when the daemon began.
    autostart: Progress,
}

/// How long the daemon waits for VMMs that it takes over before it serves.
const ADOPTION: Duration = Duration::from_millis(1500);

impl Manager {
    #[cfg(test)]
    pub(crate) fn node(&self) -> &Node {
        &self.cx.node
    }

    /// Open the store and adopt the domains that run. Nothing is started; see
    /// [`autostart`](Self::autostart).
    pub async fn open(config: Config) -> Result<Self, Error> {
        let cgroup =
            Some(config.domains.cgroup.clone()).filter(|path| !path.as_os_str().is_empty());
        Self::open_with(config, Arc::new(Local::new().with_cgroup_parent(cgroup))).await
    }

    /// With another broker than the one inside this process.
    pub async fn open_with(config: Config, broker: Arc<dyn Broker>) -> Result<Self, Error> {
        Self::open_on(Host::own(), config, broker).await
    }

    /// On a host that the broker's acts are about.
    pub async fn open_on(
        host: Host,
        config: Config,
        broker: Arc<dyn Broker>,
    ) -> Result<Self, Error> {
        if host.driver == Driver::Test {
            translate::count_identities();
        }
        let (dir, state) = (config.run_dir.clone(), config.state_dir.clone());
        let (logs, made, settings) = (config.log_dir.clone(), broker.clone(), config.clone());
        let (store, contents, autostart, boot_id, found, journal, audit, tokens, storage) =
            blocking(move || {
                made.make_run_dir(&dir.join("domains"))?;
                let mut degraded = Vec::new();
                if let Err(error) = made.make_run_dir(&logs) {
                    degraded.push(error.to_string());
                }
                let boot_id = boot_id()?;
                let autostart = Progress::read(&dir, boot_id);
                let host_was_booted = autostart == Progress::Nothing;
                let (store, mut contents) = Store::open(Arc::new(Disk), &state);
                contents.degraded.append(&mut degraded);
                let journal = Journal::open(&state, host_was_booted);
                let audit = Arc::new(Audit::open(&state, &settings.audit, host_was_booted));
                let tokens = Tokens::open(Arc::new(Disk), &state);
                let users = Users::open(Arc::new(Disk), &state);
                let secrets = Secrets::open(Arc::new(Disk), &state, journal.clone());
                let tokens = (tokens, users, secrets);
                let found = run_dirs(&dir.join("domains"));
                let jobs = Arc::new(Jobs::open(Arc::new(Disk), &state, journal.clone()));
                let filters = Filters::open(Arc::new(Disk), &state);
                let networks = (network::Found::read(Arc::new(Disk), &settings), filters);
                let snapshots = Snapshots::open(Arc::new(Disk), &state);
                let storage = (jobs, Found::read(Arc::new(Disk), &settings), networks, snapshots);
                Ok((store, contents, autostart, boot_id, found, journal, audit, tokens, storage))
            })
            .await?;
        let (jobs, mut pools, (mut networks, filters), (snapshots, mut unread)) = storage;
        let (filters, mut unread_filters, mut lacking_filters) = filters;
        let Contents { objects: domains, mut quarantined, mut degraded } = contents;
        quarantined.append(&mut unread.quarantined);
        degraded.append(&mut unread.degraded);
        quarantined.append(&mut pools.quarantined);
        degraded.append(&mut pools.degraded);
        quarantined.append(&mut networks.quarantined);
        degraded.append(&mut networks.degraded);
        quarantined.append(&mut unread_filters);
        degraded.append(&mut lacking_filters);
        let filters = Arc::new(filters);
        let (
            (tokens, unread, lacking),
            (users, unread_users, lacking_users),
            (secrets, unread_secrets, lacking_secrets),
        ) = tokens;
        quarantined.extend(unread.into_iter().chain(unread_users).chain(unread_secrets));
        degraded.extend(lacking.into_iter().chain(lacking_users).chain(lacking_secrets));
        // Before the domains, whose disks may be volumes.
        let pools = Pools::open(pools, &config, broker.clone(), journal.clone()).await;
        let running: Vec<_> = found
            .iter()
            .filter_map(|(_, record)| translate::stored(&record.as_ref()?.live).ok())
            .collect();
        let networks = Networks::open(
            networks,
            &config,
            (host.clone(), broker.clone()),
            journal.clone(),
            filters.clone(),
            &running,
        )
        .await;
        let (store, pools, networks) = (Arc::new(store), Arc::new(pools), Arc::new(networks));
        let seeds = Arc::new(Seeds::new(Arc::new(Disk), config.state_dir.join("cloud-init")));
        let checkpoints = Arc::new(Checkpoints::new(Arc::new(Disk), &config.state_dir));
        let snapshots = Arc::new(snapshots);
        let devices = DeviceWatch::new(host.clone(), journal.clone());
        let parts = Parts {
            devices,
            config,
            broker,
            store,
            journal,
            jobs,
            pools,
            networks,
            filters,
            seeds,
            checkpoints,
            snapshots,
            boot_id,
            host,
        };
        let node = Arc::new(Node::new(parts));
        let mut definitions = HashMap::new();
        for stored in domains {
            match translate::stored(&stored.xml) {
                Ok(def) => {
                    definitions.insert(stored.uuid, Arc::new(Definition { stored, def }));
                }
                // It stays where it is: another version of this program may read it.
                Err(error) => quarantined.push((format!("{}.xml", stored.uuid), error.chain())),
            }
        }
        populate(&node, definitions, found).await;
        for handle in node.all() {
            let live = handle.view().live;
            if live.is_some_and(|live| live.record.frozen == Some(Frozen::Asked)) {
                tokio::spawn(agent::thaw_after_death(handle));
            }
        }
        // What cannot be read may name a seed, and be mended.
        if quarantined.is_empty() && degraded.is_empty() {
            let node = node.clone();
            let sweep = move || {
                node.seeds.sweep(|uuid| node.get(uuid).is_some());
                node.snapshots.sweep(|uuid| node.get(uuid).is_some());
                Ok(())
            };
            blocking(sweep).await?;
        }
        for text in &degraded {
            tracing::error!(text, "the daemon works with less");
        }
        let (tokens, users, secrets) = (Arc::new(tokens), Arc::new(users), Arc::new(secrets));
        let cx = Context { node, audit, tokens, users, secrets, quarantined, degraded, autostart };
        Ok(Self { cx: Arc::new(cx) })
    }

    /// Start what is marked autostart, once for each boot of the host.
    pub async fn autostart(&self) {
        autostart::run(&self.cx, self.cx.autostart).await;
    }

    pub async fn call<O: Operation>(&self, caller: &Caller, op: O) -> Result<O::Output, Error> {
        let span = tracing::info_span!("call", op = O::NAME, caller = %caller.name);
        self.recorded(caller, op).instrument(span).await
    }

    /// Authorise, run, and write down who did what.
    async fn recorded<O: Operation>(&self, caller: &Caller, op: O) -> Result<O::Output, Error> {
        let subject = op.subject();
        // What it is about before it runs: it may be nowhere to be found afterwards. A document is
        // not read for those who may not do it whatever it says.
        let is_read = subject.is_read_for(caller, O::ACCESS);
        let target = if is_read { self.cx.target(&subject) } else { None };
        let permitted = self.cx.permit(caller, O::NAME, O::ACCESS, &subject, target.as_ref());
        let (is_audited, is_about_all) = (op.is_audited(), subject == Subject::Domains);
        let entry = self.cx.audit.begin(caller, O::NAME, op.detail(), target);
        let result = match permitted {
            Ok(()) if is_audited => self.run(caller, op, is_about_all).await,
            Ok(()) => {
                entry.forget();
                return self.run(caller, op, is_about_all).await;
            }
            Err(error) => Err(error),
        };
        entry.end(result.as_ref().map(drop).map_err(|error| error.code)).await;
        result
    }

    async fn run<O: Operation>(
        &self,
        caller: &Caller,
        op: O,
        is_about_all: bool,
    ) -> Result<O::Output, Error> {
        let result = op.run(&self.cx).await;
        match &result {
            Ok(_) => tracing::debug!("done"),
            Err(error) if error.code == Code::Internal => {
                tracing::error!(error = %error.chain(), "failed");
            }
            Err(error) => tracing::info!(code = %error.code, error = %error.chain(), "refused"),
        }
        match (result, &caller.scope) {
            (Ok(output), Some(scope)) if is_about_all => {
                O::narrow(output, scope).ok_or_else(|| {
                    let text = format!("{} is not for callers confined to {scope}", O::NAME);
                    Error::new(Code::Denied, text)
                })
            }
            (result, _) => result,
        }
    }

    /// What runs the guests here.
    #[must_use]
    pub fn driver(&self) -> Driver {
        self.cx.node.host.driver
    }

    /// Who comes with this token from there; none if it lets nobody in.
    #[must_use]
    pub fn bearer(&self, token: &str, from: &str) -> Option<Bearer> {
        self.cx.tokens.bearer(token, from, jiff::Timestamp::now())
    }

    /// Returns when this token lets nobody in any more.
    pub async fn bearer_ended(&self, token: Uuid) {
        self.cx.tokens.ended(token).await;
    }

    /// What to ask a client that wants to come in by a password, whose first message this is.
    ///
    /// # Errors
    /// When it is none of SCRAM-SHA-256.
    pub fn login(&self, message: &[u8]) -> Result<(Login, Vec<u8>), ScramError> {
        self.cx.users.login(message)
    }

    /// Returns when who came by this login may stay no longer.
    pub async fn login_ended(&self, login: (Uuid, u64)) {
        self.cx.users.ended(login).await;
    }

    /// Write down that somebody could not prove who he is.
    pub async fn turned_away(&self, from: &str) {
        let stranger = Caller::new(from, Access::Read).via(Via::Unknown);
        let entry = self.cx.audit.begin(&stranger, "authenticate", "", None);
        entry.end(Err(Code::Denied)).await;
    }

    #[must_use]
    pub fn config(&self) -> &Config {
        &self.cx.node.config
    }
}

pub(crate) fn boot_id() -> Result<Uuid, Error> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let read = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
    read.ok_or_else(|| Error::new(Code::HostFailure, format!("cannot read {}", path.display())))
}

/// Domains with a run directory, each with its record if that can be read.
fn run_dirs(dir: &Path) -> Vec<(Uuid, Option<Record>)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let uuid = |entry: &std::fs::DirEntry| entry.file_name().to_str()?.parse::<Uuid>().ok();
    entries
        .filter_map(|entry| Some((uuid(&entry)?, entry.path())))
        .map(|(uuid, path)| (uuid, Record::read(&path).ok().filter(|record| record.uuid == uuid)))
        .collect()
}

async fn populate(
    node: &Arc<Node>,
    mut definitions: HashMap<Uuid, Arc<Definition>>,
    found: Vec<(Uuid, Option<Record>)>,
) {
    let mut adoptions = Vec::new();
    for (uuid, record) in found {
        let definition = definitions.remove(&uuid);
        let stored = definition.as_ref().map(|definition| definition.stored.name.clone());
        let name = stored.or_else(|| record.as_ref().map(|record| record.name.clone()));
        let (done, adopted) = oneshot::channel();
        let record = record.map(Box::new);
        let name = name.unwrap_or_else(|| uuid.to_string());
        node.insert(uuid, name, Begin::Found { definition, record, done });
        adoptions.push(adopted);
    }
    for (uuid, definition) in definitions {
        node.insert(uuid, definition.stored.name.clone(), Begin::Stored(definition));
    }
    // One that is stuck is waited for no longer; its actor goes on trying.
    let _ = tokio::time::timeout(ADOPTION, join_all(adoptions)).await;
}

impl Context {
    pub(crate) fn find(&self, domain: &DomainRef) -> Result<Handle, Error> {
        self.node.find(domain)
    }

    /// What definitions are completed from.
    pub(crate) fn host(&self) -> translate::Host {
        let variables = self.node.config.state_dir.join("nvram");
        let (firmware, driver) = (self.node.firmware(), self.node.host.driver);
        translate::Host { firmware, variables, seeds: None, driver }
    }

    /// The same for a definition that comes with documents for cloud-init.
    pub(crate) fn host_with(
        &self,
        cloud_init: Option<&CloudInit>,
    ) -> Result<translate::Host, Error> {
        let Some(documents) = cloud_init else { return Ok(self.host()) };
        documents.check()?;
        Ok(translate::Host { seeds: Some(self.node.seeds.dir().to_owned()), ..self.host() })
    }

    /// Longer than the VMM's own deadline, so that the reason comes from there.
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_secs(self.node.config.domains.command_timeout.saturating_mul(2))
    }

    pub(crate) fn start_deadline(&self) -> Duration {
        let start = self.node.config.domains.start_timeout;
        self.deadline() + Duration::from_secs(start.saturating_mul(2))
    }

    pub(crate) async fn act(&self, domain: &DomainRef, act: Act) -> Result<(), Error> {
        self.find(domain)?.act(act, self.deadline()).await
    }
}
