//! [`Local`]: the acts themselves, with the privileges of this process.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::policy::{Judge, Policy};
use crate::sys::FileUser;
use crate::{
    Broker, BrokerError, Granted, Owner, Request, Role, Stdio, cgroup, confinement, connect, group,
    image_work, inspect, lock, network, open, owner, passt, pool, pty, rundir, saved, spawn, stat,
    tap, tcp, variables, vmm, vsock,
};

/// Who the processes of networks are, passt's too, which parse what guests send. It is for root to say, and not
/// for the daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkTerms {
    /// User and group; none: none of them is started.
    pub user: Option<(u32, u32)>,
    pub seccomp: bool,
}

impl NetworkTerms {
    fn user(self) -> Result<(u32, u32), BrokerError> {
        self.user.ok_or(BrokerError::NoNetworkUser)
    }

    /// Of `run-network`.
    fn arguments(self) -> Result<Vec<String>, BrokerError> {
        let (uid, gid) = self.user()?;
        let seccomp = self.seccomp.then(|| "--seccomp".to_owned());
        Ok([format!("--user={uid}:{gid}")].into_iter().chain(seccomp).collect())
    }
}

/// Acts with the privileges of this process.
#[derive(Debug, Clone)]
pub struct Local {
    /// What is run for a domain: a program and its first arguments.
    program: PathBuf,
    arguments: Vec<String>,
    /// Domains cannot see the host's processes.
    own_pids: bool,
    /// What is run for a network.
    server: (PathBuf, Vec<String>),
    networks: NetworkTerms,
    /// What is run to read an image's header.
    inspector: (PathBuf, Vec<String>),
    /// What is run to copy or change images.
    worker: (PathBuf, Vec<String>),
    /// Where passt may be.
    passt: Vec<PathBuf>,
    /// Where domains' cgroups go; found by itself if none.
    cgroup_parent: Option<PathBuf>,
    /// Of the directories of a daemon that is somebody else.
    owner: Option<Owner>,
    /// What else that may have.
    policy: Option<Policy>,
}

impl Default for Local {
    fn default() -> Self {
        Self::new()
    }
}

impl Local {
    /// Domains run in this same binary (`manor run-domain`), also after the file was replaced.
    #[must_use]
    pub fn new() -> Self {
        Self {
            program: "/proc/self/exe".into(),
            arguments: vec!["run-domain".into()],
            own_pids: true,
            server: ("/proc/self/exe".into(), vec!["run-network".into()]),
            networks: NetworkTerms::default(),
            inspector: ("/proc/self/exe".into(), vec!["inspect".into()]),
            worker: ("/proc/self/exe".into(), vec!["work-on-images".into()]),
            passt: passt::PROGRAMS.iter().map(PathBuf::from).collect(),
            cgroup_parent: None,
            owner: None,
            policy: None,
        }
    }

    #[must_use]
    pub fn with_cgroup_parent(mut self, parent: Option<PathBuf>) -> Self {
        self.cgroup_parent = parent;
        self
    }

    /// More arguments for what is run for a domain: what it may not be told otherwise by the daemon.
    #[must_use]
    pub fn with_terms(mut self, terms: impl IntoIterator<Item = String>) -> Self {
        self.arguments.extend(terms);
        self
    }

    /// Of what is run for a network, where there is a policy.
    #[must_use]
    pub fn with_network_terms(mut self, terms: NetworkTerms) -> Self {
        self.networks = terms;
        self
    }

    /// What is made in the daemon's directories is its user's.
    #[must_use]
    pub fn with_owner(mut self, owner: Option<Owner>) -> Self {
        self.owner = owner;
        self
    }

    /// Do for the daemon what this allows, and nothing else.
    #[must_use]
    pub fn with_policy(mut self, policy: Option<Policy>) -> Self {
        self.policy = policy;
        self
    }

    /// What is there from the broker before is known, too. To be called when that has ended.
    pub(crate) fn take_up(&self, run_dir: &Path) -> Result<(), BrokerError> {
        self.policy.as_ref().map_or(Ok(()), |policy| policy.take_up(run_dir))
    }

    /// What is done as the daemon's user is no more than that could do itself.
    fn judge(&self, as_owner: Option<&FileUser>) -> Judge<'_> {
        Judge(self.policy.as_ref().filter(|_| as_owner.is_none()))
    }

    fn act_in(&self, path: Option<&Path>) -> Result<Option<FileUser>, BrokerError> {
        match (&self.owner, path) {
            (Some(owner), Some(path)) => owner.act_in(path),
            _ => Ok(None),
        }
    }

    /// Run another program to look into images.
    #[must_use]
    pub fn with_inspector(mut self, program: PathBuf, arguments: Vec<String>) -> Self {
        self.inspector = (program, arguments);
        self
    }

    /// Run this passt and no other.
    #[must_use]
    pub fn with_passt(mut self, program: PathBuf) -> Self {
        self.passt = vec![program];
        self
    }

    /// Run another program for networks.
    #[must_use]
    pub fn with_server(mut self, program: PathBuf, arguments: Vec<String>) -> Self {
        self.server = (program, arguments);
        self
    }

    /// Run another program for domains, which is one of the host's processes as any.
    #[must_use]
    pub fn with_program(mut self, program: PathBuf, arguments: Vec<String>) -> Self {
        (self.program, self.arguments) = (program, arguments);
        self.own_pids = false;
        self
    }
}

impl Broker for Local {
    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
        let as_owner = self.act_in(owner::place(&request))?;
        let judge = self.judge(as_owner.as_ref());
        match request {
            Request::OpenKvm => open::kvm().map(Granted::File),
            Request::OpenInput { what, path } => {
                open::input(judge, &what, &path).map(Granted::File)
            }
            Request::OpenOutput { path, append } => {
                open::output(judge, &path, append).map(Granted::File)
            }
            Request::OpenImage { path, read_only, direct, sharing } => {
                let image = open::image(judge, &path, read_only, direct)?;
                lock::image(&image, &path, read_only, sharing)?;
                Ok(Granted::File(image))
            }
            Request::MakeVariables { path, template, reset } => {
                variables::make(judge, &path, template.as_deref(), reset).map(|()| Granted::Done)
            }
            Request::RemoveVariables { path } => {
                variables::remove(judge, &path).map(|()| Granted::Done)
            }
            Request::Saved(act) => saved::act(judge, &act),
            Request::Inspect { format } => {
                let &[image] = files else {
                    let source = std::io::Error::other("one image is inspected at a time");
                    return Err(BrokerError::Host { act: "look into an image".into(), source });
                };
                let (program, arguments) = &self.inspector;
                inspect::inspect(program, arguments, &format, image).map(Granted::Answer)
            }
            Request::WorkOnImages => {
                let (program, arguments) = &self.worker;
                image_work::start(program, arguments, files).map(Granted::File)
            }
            Request::Pool { pool, act } => pool::act(judge, &pool, &act),
            Request::Group { group, act } => group::act(judge, &group, &act),
            Request::VolumeGroups => group::list(),
            Request::OpenTap(request) => tap::open(&request).map(Granted::Tap),
            Request::StartPasst { name, mut passt, cgroup } => {
                judge.cgroup(cgroup.as_deref())?;
                if self.policy.is_some() {
                    passt.user = Some(self.networks.user()?);
                }
                passt.log.as_deref().map(|log| judge.named("log", log)).transpose()?;
                let program = passt::find(&self.passt)?;
                passt::start(program, &name, &passt, cgroup.as_deref()).map(Granted::File)
            }
            Request::OpenVhostNet => tap::vhost().map(Granted::VhostNet),
            Request::OpenVsock { cid } => vsock::vsock(cid).map(Granted::Vsock),
            Request::OpenPty => pty::open(),
            Request::Listen { path } => rundir::listen(judge, &path).map(Granted::File),
            Request::ListenTcp { address, first, last } => {
                judge.port(first)?;
                tcp::listen(address, first..=last)
                    .map(|(listener, port)| Granted::Port { listener, port })
            }
            Request::Connect(peer) => connect::connect(judge, &peer).map(Granted::File),
            Request::MakeRunDir { path } => {
                judge.own(&path)?;
                rundir::make(&path).map(|()| Granted::Done)
            }
            Request::RemoveRunDir { path } => {
                judge.own(&path)?;
                rundir::remove(&path).map(|()| Granted::Done)
            }
            Request::LockRunDir { path } => {
                judge.own(&path)?;
                lock::run_dir(&path).map(Granted::File)
            }
            Request::MakeCgroup { name } => {
                cgroup::make(judge, self.cgroup_parent.as_deref(), &name).map(Granted::Path)
            }
            Request::RemoveCgroup { path } => {
                let there = judge.cgroup(Some(&path))?;
                there.map_or(Ok(()), cgroup::remove).map(|()| Granted::Done)
            }
            Request::Limit { cgroup, limits } => {
                let there = judge.cgroup(Some(&cgroup))?.ok_or_else(|| BrokerError::NoCgroup {
                    reason: format!("there is no {}", cgroup.display()),
                })?;
                cgroup::limit(there, &limits).map(|()| Granted::Done)
            }
            Request::TuneThreads { process, cgroup, rules } => {
                judge.process(process)?;
                let cgroup = judge.cgroup(cgroup.as_deref())?;
                cgroup::threads::tune(process, cgroup, &rules).map(|()| Granted::Done)
            }
            Request::HostMemory(number) => number.set(Path::new("/sys")).map(|()| Granted::Done),
            Request::Network(act) => network::act(&act),
            Request::Spawn { role, name, stdio, cgroup, limits } => {
                judge.cgroup(cgroup.as_deref())?;
                let (program, mut arguments) = match role {
                    Role::Domain => (&self.program, self.arguments.clone()),
                    Role::Network => (&self.server.0, self.server.1.clone()),
                };
                if role == Role::Network && self.policy.is_some() {
                    arguments.extend(self.networks.arguments()?);
                }
                let log = match &stdio {
                    Stdio::Log(path) => {
                        let as_owner = self.act_in(Some(path))?;
                        Some(spawn::log(self.judge(as_owner.as_ref()), path)?)
                    }
                    Stdio::Foreground => None,
                };
                let command = spawn::Command {
                    own_pids: role == Role::Domain && self.own_pids,
                    program,
                    arguments: &arguments,
                    role,
                    name: &name,
                    log,
                    cgroup: cgroup.as_deref(),
                    limits: &limits,
                    ledger: judge.ledger(),
                };
                spawn::spawn(&command, files).map(Granted::Spawned)
            }
            Request::Kill { process, cgroup } => {
                judge.process(process)?;
                let cgroup = judge.cgroup(cgroup.as_deref())?;
                spawn::kill(process, cgroup).map(|()| Granted::Done)
            }
            Request::FindVmm { said, lock } => {
                let found = vmm::find(said, &lock);
                let found = found.filter(|process| judge.process(*process).is_ok());
                Ok(Granted::Process(found))
            }
            Request::Stat { path, follow } => {
                stat::stat(judge, self.owner.as_ref(), &path, follow).map(Granted::Stat)
            }
            Request::RealPath { path } => {
                stat::real_path(judge, self.owner.as_ref(), &path).map(Granted::Path)
            }
            Request::Confinement { process } => {
                judge.process(process)?;
                // Held, so that the number is no other's meanwhile.
                let held = process.open();
                Ok(Granted::Facts(
                    held.map(|_held| confinement::facts(process.pid)).unwrap_or_default(),
                ))
            }
            Request::WatchRules => network::watch_rules().map(Granted::File),
        }
    }
}
