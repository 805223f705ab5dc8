//! The processors of a guest as it sees them itself, through its agent.

use serde_json::json;

use crate::agent::replies::{LogicalProcessor, MOST_ROWS};
use crate::agent::{Agent, Ask};
use crate::auth::{Access, Subject};
use crate::domain::{DomainRef, GuestVcpu};
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};

/// Which processors the guest has, and uses (virDomainGetGuestVcpus).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetGuestVcpus {
    pub domain: DomainRef,
}

impl Operation for GetGuestVcpus {
    type Output = Vec<GuestVcpu>;
    const NAME: &'static str = "domain.guest-vcpus";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<GuestVcpu>, Error> {
        let mut agent = Agent::meet(&cx.find(&self.domain)?).await?;
        vcpus(&mut agent).await
    }
}

/// Have the guest use processors, or do without them (virDomainSetGuestVcpus). They stay in the
/// machine: the guest alone knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetGuestVcpus {
    pub domain: DomainRef,
    pub change: GuestVcpuChange,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestVcpuChange {
    /// These.
    These { ids: Vec<u32>, online: bool },
    /// So many, whichever (virDomainSetVcpusFlags with VIR_DOMAIN_VCPU_GUEST).
    Count(u32),
}

impl Operation for SetGuestVcpus {
    type Output = ();
    const NAME: &'static str = "domain.set-guest-vcpus";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let mut agent = Agent::meet(&cx.find(&self.domain)?).await?;
        let all = vcpus(&mut agent).await?;
        let mut wanted = match self.change {
            GuestVcpuChange::These { ids, online } => these(&all, &ids, online)?,
            GuestVcpuChange::Count(count) => so_many(&all, count)?,
        };
        // An agent may do a part, and says how much of it.
        while !wanted.is_empty() {
            let rows: Vec<_> = wanted
                .iter()
                .map(|(id, online)| json!({ "logical-id": id, "online": online }))
                .collect();
            let ask = Ask::new("guest-set-vcpus").with(json!({ "vcpus": rows }));
            let done: i64 = agent.ask(ask).await?;
            let done = usize::try_from(done).unwrap_or(0).min(wanted.len());
            if done == 0 {
                let text = format!(
                    "the guest of domain {:?} did not change processor {}",
                    agent.name(),
                    wanted[0].0
                );
                return Err(Error::new(Code::InvalidState, text));
            }
            wanted.drain(..done);
        }
        Ok(())
    }
}

async fn vcpus(agent: &mut Agent) -> Result<Vec<GuestVcpu>, Error> {
    let all: Vec<LogicalProcessor> = agent.ask(Ask::new("guest-get-vcpus")).await?;
    let vcpu = |found: LogicalProcessor| GuestVcpu {
        id: found.logical_id,
        online: found.online,
        can_offline: found.can_offline,
    };
    Ok(all.into_iter().take(MOST_ROWS).map(vcpu).collect())
}

type Wanted = Vec<(u32, bool)>;

fn these(all: &[GuestVcpu], ids: &[u32], online: bool) -> Result<Wanted, Error> {
    let invalid = |text: String| Error::new(Code::InvalidArgument, text);
    if ids.is_empty() {
        return Err(invalid("no processor was named".to_owned()));
    }
    for id in ids {
        let found = all.iter().find(|vcpu| vcpu.id == *id);
        let found = found.ok_or_else(|| invalid(format!("the guest has no processor {id}")))?;
        if !online && !found.can_offline {
            return Err(invalid(format!("the guest cannot do without processor {id}")));
        }
    }
    Ok(ids.iter().map(|id| (*id, online)).collect())
}

/// Those with low numbers stay.
fn so_many(all: &[GuestVcpu], count: u32) -> Result<Wanted, Error> {
    let online = all.iter().filter(|vcpu| vcpu.online).count();
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let wanted: Wanted = if count >= online {
        let more = all.iter().filter(|vcpu| !vcpu.online).map(|vcpu| (vcpu.id, true));
        more.take(count - online).collect()
    } else {
        let fewer = all.iter().rev().filter(|vcpu| vcpu.online && vcpu.can_offline);
        fewer.map(|vcpu| (vcpu.id, false)).take(online - count).collect()
    };
    if wanted.len() == count.abs_diff(online) {
        return Ok(wanted);
    }
    let text = format!(
        "the guest cannot use {count} processors: it has {}, and uses {online}, of which it can do \
         without {}",
        all.len(),
        all.iter().filter(|vcpu| vcpu.online && vcpu.can_offline).count()
    );
    Err(Error::new(Code::InvalidArgument, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest() -> Vec<GuestVcpu> {
        [(0, true, false), (1, true, true), (2, false, true), (3, true, true)]
            .map(|(id, online, can_offline)| GuestVcpu { id, online, can_offline })
            .into()
    }

    #[test]
    fn a_number_becomes_processors() {
        let so_many = |count| so_many(&guest(), count).ok();
        assert_eq!(so_many(3), Some(vec![]));
        assert_eq!(so_many(4), Some(vec![(2, true)]));
        assert_eq!(so_many(2), Some(vec![(3, false)]));
        assert_eq!(so_many(1), Some(vec![(3, false), (1, false)]));
        assert_eq!([so_many(0), so_many(5), so_many(u32::MAX)], [None, None, None]);
    }

    #[test]
    fn processors_that_are_not_there_or_needed_are_refused() {
        assert_eq!(these(&guest(), &[1, 3], false).unwrap(), [(1, false), (3, false)]);
        for (ids, online) in [(&[][..], true), (&[7], true), (&[0], false)] {
            assert_eq!(these(&guest(), ids, online).unwrap_err().code, Code::InvalidArgument);
        }
    }
}
