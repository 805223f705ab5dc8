//! Whether the host has the huge pages that a guest's memory is to be made of. The VMM would find out
//! too; here it can be said how many there are.

use std::fs;
use std::path::Path;

use xml::DomainDef;

use crate::error::{Code, Error};
use crate::host::Host;

/// Below /sys.
const POOLS: &str = "kernel/mm/hugepages";

pub(super) fn check(def: &DomainDef, host: &Host) -> Result<(), Error> {
    check_in(def, &host.sys().join(POOLS), host.huge_page_size())
}

fn check_in(def: &DomainDef, pools: &Path, default: u64) -> Result<(), Error> {
    let wanted = def.memory_backing.as_ref().and_then(|backing| backing.huge_pages.as_ref());
    let Some(wanted) = wanted else { return Ok(()) };
    let page = wanted.pages.first().map_or(default, |page| page.size.0);
    let pool = pools.join(format!("hugepages-{page}kB"));
    let read = |name: &str| {
        let text = fs::read_to_string(pool.join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let Some(free) = read("free_hugepages") else {
        let text = format!("this host has no huge pages of {page} KiB");
        return Err(Error::new(Code::ResourceMissing, text));
    };
    let free = free.saturating_sub(read("resv_hugepages").unwrap_or(0));
    let needed = def.memory.size.0.div_ceil(page.max(1));
    if needed <= free {
        return Ok(());
    }
    let text = format!(
        "the guest needs {needed} huge pages of {page} KiB, and {free} are free on this host; add some \
         in {}",
        pool.join("nr_hugepages").display()
    );
    Err(Error::new(Code::ResourceExhausted, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(backing: &str) -> DomainDef {
        let text = format!(
            "<domain type='kvm'><name>t</name><memory unit='MiB'>64</memory>\
             <memoryBacking>{backing}</memoryBacking><os><type>hvm</type></os></domain>"
        );
        DomainDef::parse(&text).unwrap().value
    }

    #[test]
    fn too_few_pages_and_pages_that_no_host_has_are_told_apart() {
        let pools = tempfile::tempdir().unwrap();
        let pool = pools.path().join("hugepages-2048kB");
        fs::create_dir(&pool).unwrap();
        let check = |backing: &str, free: u64, reserved: u64| {
            fs::write(pool.join("free_hugepages"), format!("{free}\n")).unwrap();
            fs::write(pool.join("resv_hugepages"), format!("{reserved}\n")).unwrap();
            check_in(&def(backing), pools.path(), 2048).map_err(|error| error.message)
        };
        assert_eq!(check("<hugepages/>", 32, 0), Ok(()));
        assert_eq!(check("<locked/>", 0, 0), Ok(()));
        let few = check("<hugepages><page size='2' unit='MiB'/></hugepages>", 32, 1).unwrap_err();
        assert!(few.contains("needs 32 huge pages of 2048 KiB, and 31 are free"), "{few}");
        let none = check("<hugepages><page size='1' unit='GiB'/></hugepages>", 32, 0).unwrap_err();
        assert!(none.contains("no huge pages of 1048576 KiB"), "{none}");
    }
}
