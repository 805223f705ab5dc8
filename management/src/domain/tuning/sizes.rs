//! How many vCPUs and how much memory a guest starts with.

use xml::DomainDef;
use xml::domain::{Kib, Vcpu};

use super::Sizes;
use crate::error::{Code, Error};
use crate::translate::check::{LEAST_MEMORY_KIB, MOST_VCPUS};

impl Sizes {
    pub(super) fn apply(&self, def: &mut DomainDef) -> Result<(), Error> {
        if self.vcpus.is_some() || self.max_vcpus.is_some() {
            self.apply_vcpus(def)?;
        }
        match self.max_memory_bytes {
            Some(bytes) => apply_memory(def, Kib(bytes / 1024)),
            None => Ok(()),
        }
    }

    /// What a running guest cannot have: its maxima are for good.
    pub(super) fn is_for_a_start(&self) -> bool {
        self.max_vcpus.is_some() || self.max_memory_bytes.is_some()
    }

    fn apply_vcpus(&self, def: &mut DomainDef) -> Result<(), Error> {
        let none = Vcpu { placement: None, cpuset: None, current: None, max: 1 };
        let mut vcpu = def.vcpu.clone().unwrap_or(none);
        let current = vcpu.current.unwrap_or(vcpu.max);
        let max = self.max_vcpus.unwrap_or(vcpu.max);
        if max == 0 || max > MOST_VCPUS {
            return Err(invalid(format!("a guest has 1 to {MOST_VCPUS} vCPUs, not {max}")));
        }
        // With a smaller maximum those that were there beyond it go.
        let count = self.vcpus.unwrap_or(current.min(max));
        if count == 0 || count > max {
            let text = format!("{count} vCPUs: the domain has at least 1, and at most {max}");
            return Err(invalid(text));
        }
        if max != vcpu.max {
            let topology = def.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref());
            let cells = def.cpu.as_ref().is_some_and(|cpu| cpu.numa.is_some());
            if topology.is_some() || cells {
                let text = "the definition's <cpu> says of each vCPU where it is (<topology>, \
                            <numa>): change the maximum there";
                return Err(Error::new(Code::InvalidState, text));
            }
        }
        // Who said how many there are at first may change that while the guest runs, all or not.
        let said = vcpu.current.is_some() && max == vcpu.max;
        vcpu.max = max;
        vcpu.current = (count < max || said).then_some(count);
        def.vcpu = Some(vcpu);
        Ok(())
    }
}

fn apply_memory(def: &mut DomainDef, size: Kib) -> Result<(), Error> {
    if size.0 < LEAST_MEMORY_KIB {
        return Err(invalid("a guest has at least 32 MiB of memory".to_owned()));
    }
    if def.cpu.as_ref().is_some_and(|cpu| cpu.numa.is_some()) {
        let text = "the memory of this domain is that of its NUMA cells: change it there";
        return Err(Error::new(Code::InvalidState, text));
    }
    def.memory.size = size;
    def.current_memory = def.current_memory.map(|current| current.min(size));
    Ok(())
}

fn invalid(text: String) -> Error {
    Error::new(Code::InvalidArgument, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(vcpu: &str, cpu: &str) -> DomainDef {
        let text = format!(
            "<domain type='kvm'><name>a</name><memory unit='MiB'>64</memory>{vcpu}\
             <os><type>hvm</type></os>{cpu}</domain>"
        );
        DomainDef::parse(&text).unwrap().value
    }

    fn vcpus(vcpus: Option<u16>, max_vcpus: Option<u16>) -> Sizes {
        Sizes { vcpus, max_vcpus, max_memory_bytes: None }
    }

    fn of(def: &DomainDef) -> (Option<u16>, u16) {
        def.vcpu.as_ref().map(|vcpu| (vcpu.current, vcpu.max)).unwrap()
    }

    #[test]
    fn a_guest_starts_with_up_to_its_maximum() {
        let mut def = def("<vcpu>4</vcpu>", "");
        vcpus(Some(2), None).apply(&mut def).unwrap();
        assert_eq!(of(&def), (Some(2), 4));
        vcpus(None, Some(8)).apply(&mut def).unwrap();
        assert_eq!(of(&def), (Some(2), 8));
        vcpus(None, Some(1)).apply(&mut def).unwrap();
        assert_eq!(of(&def), (None, 1), "what was there beyond it is gone");
        for wrong in [vcpus(Some(2), None), vcpus(Some(0), None), vcpus(None, Some(65))] {
            assert_eq!(wrong.apply(&mut def).unwrap_err().code, Code::InvalidArgument);
        }
    }

    #[test]
    fn a_topology_says_how_many_there_are() {
        let topology = "<cpu><topology sockets='1' cores='4' threads='1'/></cpu>";
        let mut def = def("<vcpu>4</vcpu>", topology);
        assert_eq!(vcpus(None, Some(8)).apply(&mut def).unwrap_err().code, Code::InvalidState);
        vcpus(Some(3), None).apply(&mut def).unwrap();
        assert_eq!(of(&def), (Some(3), 4));
    }

    #[test]
    fn current_memory_is_never_above_the_maximum() {
        let mut def = def("", "");
        def.current_memory = Some(Kib(65_536));
        let memory = |bytes| Sizes { max_memory_bytes: Some(bytes), ..Sizes::default() };
        memory(48 << 20).apply(&mut def).unwrap();
        assert_eq!((def.memory.size, def.current_memory), (Kib(49_152), Some(Kib(49_152))));
        assert_eq!(memory(1 << 20).apply(&mut def).unwrap_err().code, Code::InvalidArgument);
    }
}
