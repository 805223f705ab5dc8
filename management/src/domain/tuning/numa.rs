//! Which of the host's nodes a guest's memory comes from (`<numatune>`).

use xml::domain::NumaTune;
use xml::domain::memory::{NumaMemory, NumaMode};
use xml::{CpuSet, DomainDef};

use super::NumaTuning;
use crate::error::{Code, Error};

impl NumaTuning {
    pub(super) fn of(def: &DomainDef) -> Self {
        let tune = def.numa_tune.as_ref();
        let Some(memory) = tune.and_then(|tune| tune.memory.as_ref()) else {
            return Self::default();
        };
        let nodes = memory.nodeset.iter().flat_map(CpuSet::iter);
        Self {
            mode: memory.mode.map(|mode| mode.name().to_owned()),
            nodes: Some(nodes.filter_map(|node| u16::try_from(node).ok()).collect()),
        }
    }

    /// Memory is where it is while a guest runs.
    pub(super) fn is_said(&self) -> bool {
        *self != Self::default()
    }

    pub(super) fn apply(&self, def: &mut DomainDef) -> Result<(), Error> {
        if !self.is_said() {
            return Ok(());
        }
        let mode = self.mode.as_deref().map(mode).transpose()?;
        let mut tune = def.numa_tune.take().unwrap_or_default();
        let mut memory = tune.memory.take().unwrap_or_default();
        memory.mode = mode.or(memory.mode);
        if let Some(nodes) = &self.nodes {
            let set = nodes.iter().map(|node| u32::from(*node)).collect();
            memory.nodeset = (!nodes.is_empty()).then_some(set);
            memory.placement = None;
        }
        if memory.nodeset.is_none() && memory.mode.is_some() && self.nodes.is_none() {
            let text = "say which of the host's nodes the memory shall come from (--nodeset)";
            return Err(Error::new(Code::InvalidArgument, text));
        }
        // Without nodes there is nothing to be strict about.
        tune.memory = Some(memory).filter(|memory: &NumaMemory| memory.nodeset.is_some());
        def.numa_tune = Some(tune).filter(|tune| *tune != NumaTune::default());
        Ok(())
    }
}

fn mode(word: &str) -> Result<NumaMode, Error> {
    match word {
        "strict" => Ok(NumaMode::Strict),
        "preferred" => Ok(NumaMode::Preferred),
        "interleave" => Ok(NumaMode::Interleave),
        "restrictive" => {
            let text = "memory is not placed by cgroups (restrictive); use strict";
            Err(Error::new(Code::Unsupported, text))
        }
        _ => {
            let text =
                format!("there is no mode {word:?}; there are strict, preferred and interleave");
            Err(Error::new(Code::InvalidArgument, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuned(numa: &str, change: &NumaTuning) -> Result<NumaTuning, Code> {
        let text = format!(
            "<domain type='kvm'><name>a</name><memory unit='MiB'>64</memory>{numa}\
             <os><type>hvm</type></os></domain>"
        );
        let mut def = DomainDef::parse(&text).unwrap().value;
        change.apply(&mut def).map_err(|error| error.code)?;
        Ok(NumaTuning::of(&def))
    }

    fn tuning(mode: Option<&str>, nodes: Option<&[u16]>) -> NumaTuning {
        NumaTuning { mode: mode.map(str::to_owned), nodes: nodes.map(<[u16]>::to_vec) }
    }

    #[test]
    fn what_is_not_said_stays() {
        let there = "<numatune><memory mode='strict' nodeset='0-1'/></numatune>";
        let both = tuning(Some("interleave"), Some(&[1]));
        assert_eq!(tuned("", &both), Ok(both.clone()));
        let interleaved = tuning(Some("interleave"), Some(&[0, 1]));
        assert_eq!(tuned(there, &tuning(Some("interleave"), None)), Ok(interleaved));
        assert_eq!(tuned(there, &tuning(None, Some(&[3]))), Ok(tuning(Some("strict"), Some(&[3]))));
        assert_eq!(tuned(there, &tuning(None, Some(&[]))), Ok(NumaTuning::default()));
    }

    #[test]
    fn modes_that_there_are_not_are_refused() {
        assert_eq!(tuned("", &tuning(Some("strict"), None)), Err(Code::InvalidArgument));
        assert_eq!(tuned("", &tuning(Some("x"), Some(&[0]))), Err(Code::InvalidArgument));
        assert_eq!(tuned("", &tuning(Some("restrictive"), Some(&[0]))), Err(Code::Unsupported));
    }
}
