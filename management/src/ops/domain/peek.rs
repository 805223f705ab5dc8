//! A look into a guest's memory.

use vmm_protocol::control::{Reply, Request};
use vmm_protocol::peek::{MOST, from_hex};

use crate::auth::{Access, Subject};
use crate::domain::DomainRef;
use crate::domain::actor::vmm_error;
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};

/// Bytes of a running guest's memory (virDomainMemoryPeek), which the guest may be writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeekMemory {
    pub domain: DomainRef,
    pub address: u64,
    pub len: u32,
    /// The address is one that the first vCPU uses now; else it is physical.
    pub linear: bool,
}

impl Operation for PeekMemory {
    type Output = Vec<u8>;
    const NAME: &'static str = "domain.peek-memory";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<u8>, Error> {
        let Self { domain, address, len, linear } = self;
        let invalid = |text: String| Error::new(Code::InvalidArgument, text);
        if len > MOST {
            return Err(invalid(format!("one look is at up to {MOST} bytes, not {len}")));
        }
        let view = cx.find(&domain)?.view();
        if view.live.is_none() {
            let text = format!("domain {:?} is not running: it has no memory", view.name);
            return Err(Error::new(Code::InvalidState, text));
        }
        let Some(vmm) = view.vmm else {
            let text = format!("the VMM of domain {:?} does not answer", view.name);
            return Err(Error::new(Code::VmmUnreachable, text));
        };
        let answer = vmm.ask(Request::PeekMemory { address, len, linear }, cx.deadline()).await;
        match answer.map_err(|error| vmm_error(&view.name, error))? {
            Reply::Memory { hex: None } => {
                let kind = if linear { "virtual" } else { "physical" };
                let text =
                    format!("the guest has no memory at {kind} address {address:#x}+{len:#x}");
                Err(invalid(text))
            }
            Reply::Memory { hex: Some(hex) } => from_hex(&hex)
                .filter(|found| found.len() == len as usize)
                .ok_or_else(|| Error::new(Code::VmmFailed, "the VMM's answer is no memory")),
            _ => Err(Error::new(Code::VmmFailed, "the VMM answers something else")),
        }
    }
}
