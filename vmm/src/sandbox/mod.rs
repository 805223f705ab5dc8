//! Seccomp filters: which system calls each kind of thread may still make once a guest runs.
//!
//! A thread installs its filter itself, after everything it needs is open and before the first
//! instruction of the guest. What is not listed ends the process at once: nothing a guest can make
//! us do leads there, so whoever gets there is not us any more.

mod ioctls;
mod rules;
mod sys;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

pub use rules::Kind;

/// The filters of a process, compiled once.
#[derive(Clone)]
pub struct Sandbox {
    programs: Option<Arc<BTreeMap<Kind, BpfProgram>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("the seccomp filter of {kind:?} threads cannot be built")]
    Filter { kind: Kind, source: seccompiler::BackendError },
    #[error("the handler that names refused system calls cannot be installed")]
    Handler { source: io::Error },
}

impl Sandbox {
    /// No filters: for debugging the VMM itself.
    #[must_use]
    pub fn off() -> Self {
        Self { programs: None }
    }

    /// Filters that end the process. With `MANOR_SECCOMP=trap` in the environment the refused
    /// system call is named on stderr first.
    pub fn on() -> Result<Self, SandboxError> {
        let trap = std::env::var_os("MANOR_SECCOMP").is_some_and(|value| value == "trap");
        if trap {
            sys::name_refused_calls().map_err(|source| SandboxError::Handler { source })?;
        }
        let refusal = if trap { SeccompAction::Trap } else { SeccompAction::KillProcess };
        let compile = |kind: Kind| {
            let program = compile(kind, refusal.clone());
            program.map_err(|source| SandboxError::Filter { kind, source }).map(|it| (kind, it))
        };
        let programs: Result<_, _> = Kind::ALL.into_iter().map(compile).collect();
        Ok(Self { programs: Some(Arc::new(programs?)) })
    }

    #[must_use]
    pub fn is_on(&self) -> bool {
        self.programs.is_some()
    }

    /// Confine the calling thread for good.
    pub fn enter(&self, kind: Kind) -> io::Result<()> {
        let Some(program) = self.programs.as_ref().and_then(|programs| programs.get(&kind)) else {
            return Ok(());
        };
        seccompiler::apply_filter(program).map_err(io::Error::other)
    }

    /// [`enter`](Self::enter), to hand to a thread.
    pub fn entering(&self, kind: Kind) -> impl FnOnce() -> io::Result<()> + Send + 'static {
        let sandbox = self.clone();
        move || sandbox.enter(kind)
    }
}

fn compile(kind: Kind, refusal: SeccompAction) -> Result<BpfProgram, seccompiler::BackendError> {
    let rules = rules::of(kind)?.into_iter().collect();
    let filter = SeccompFilter::new(rules, refusal, SeccompAction::Allow, TargetArch::x86_64)?;
    filter.try_into()
}
