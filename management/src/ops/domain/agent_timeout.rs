//! How long a guest's agent may take.

use crate::auth::{Access, Subject};
use crate::domain::handle::Act;
use crate::domain::{AgentTimeout, DomainRef};
use crate::error::Error;
use crate::manager::{Context, Operation};

/// How long a guest's agent may take to answer from now on (virDomainAgentSetResponseTimeout). It holds for
/// later starts, too, as long as the daemon lives; of a guest that runs, the next daemon keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAgentTimeout {
    pub domain: DomainRef,
    pub timeout: AgentTimeout,
}

impl Operation for SetAgentTimeout {
    type Output = ();
    const NAME: &'static str = "domain.set-agent-timeout";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        cx.act(&self.domain, Act::SetAgentTimeout(self.timeout)).await
    }
}
