//! vCPUs of a machine, one by one.

use xml::DomainDef;

use crate::auth::{Access, Subject};
use crate::domain::handle::{Act, View};
use crate::domain::plug::LETTING_GO;
use crate::domain::{Affects, DomainRef, Sizes, Tuning};
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};

/// Have a guest get vCPUs, or do without them, by their numbers (virDomainSetVcpu). They come in the order of
/// their numbers, and go the other way: which there are is told by how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetVcpus {
    pub domain: DomainRef,
    pub vcpus: Vec<u16>,
    pub enabled: bool,
    pub affects: Affects,
}

impl Operation for SetVcpus {
    type Output = ();
    const NAME: &'static str = "domain.set-vcpus";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let handle = cx.find(&self.domain)?;
        let view = handle.view();
        let Affects { live, config } = self.affects;
        let live = live || (!config && view.live.is_some());
        let config = config || !live;
        // Both are looked at before one is changed.
        let mut changes = Vec::new();
        for affects in
            [Affects { live: true, config: false }, Affects { live: false, config: true }]
        {
            if (affects.live && live) || (affects.config && config) {
                changes.extend(self.count(&view, affects)?.map(|count| (count, affects)));
            }
        }
        for (count, affects) in changes {
            let sizes = Sizes { vcpus: Some(count), ..Sizes::default() };
            let act = Act::Tune(Box::new(Tuning { sizes, ..Tuning::default() }), affects);
            // A guest takes its time to do without a vCPU.
            handle.act(act, cx.deadline() + LETTING_GO).await?;
        }
        Ok(())
    }
}

impl SetVcpus {
    /// How many there are then; none: all is so already.
    fn count(&self, view: &View, affects: Affects) -> Result<Option<u16>, Error> {
        let (count, max) = there(super::query::definition_of(view, affects)?);
        counted(&self.vcpus, self.enabled, count, max).map_err(|why| {
            Error::new(Code::InvalidArgument, format!("domain {:?}: {why}", view.name))
        })
    }
}

fn there(def: &DomainDef) -> (u16, u16) {
    let vcpu = def.vcpu.as_ref();
    vcpu.map_or((1, 1), |vcpu| (vcpu.current.unwrap_or(vcpu.max), vcpu.max))
}

fn counted(vcpus: &[u16], enabled: bool, count: u16, max: u16) -> Result<Option<u16>, String> {
    let mut wanted = vcpus.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let Some(last) = wanted.last() else { return Err("no vCPU was named".to_owned()) };
    if *last >= max {
        return Err(format!("there is no vCPU {last}: it has at most {max}, from 0 on"));
    }
    wanted.retain(|vcpu| (*vcpu < count) != enabled);
    let (Some(first), Some(last)) = (wanted.first().copied(), wanted.last().copied()) else {
        return Ok(None);
    };
    let is_run = usize::from(last - first) + 1 == wanted.len();
    let then = if enabled { last + 1 } else { first };
    let at_end = if enabled { first == count } else { last + 1 == count };
    if then == 0 {
        return Err("vCPU 0 is always there".to_owned());
    }
    if is_run && at_end {
        return Ok(Some(then));
    }
    let next = if enabled { count } else { count.saturating_sub(1) };
    let what = if enabled { "comes" } else { "goes" };
    Err(format!(
        "vCPUs come in the order of their numbers, and go the other way: the one that {what} next is {next}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vcpus_by_their_numbers_become_how_many_there_are() {
        let counted = |vcpus: &[u16], enabled| counted(vcpus, enabled, 3, 6).ok();
        assert_eq!(counted(&[3], true), Some(Some(4)));
        assert_eq!(counted(&[5, 4, 3, 3, 0], true), Some(Some(6)));
        assert_eq!(counted(&[0, 2], true), Some(None), "they are there");
        assert_eq!(counted(&[2, 1, 5], false), Some(Some(1)));
        assert_eq!(counted(&[4], false), Some(None));
        for (vcpus, enabled) in [
            (&[4][..], true),
            (&[3, 5], true),
            (&[1], false),
            (&[0, 1, 2], false),
            (&[6], true),
            (&[], true),
        ] {
            assert_eq!(counted(vcpus, enabled), None, "{vcpus:?} {enabled}");
        }
    }
}
