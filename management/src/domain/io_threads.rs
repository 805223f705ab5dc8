//! io threads that the next start makes, or makes no more.

use xml::DomainDef;
use xml::domain::tuning::IoThread;
use xml::domain::{CpuTune, IoThreadIds};

use super::actor::Actor;
use super::link::Affects;
use crate::error::{Code, Error};
use crate::events::Lifecycle;
use crate::translate::check::MOST_IO_THREADS;
use crate::translate::tuning;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoThreadChange {
    Add(u32),
    Remove(u32),
}

impl IoThreadChange {
    fn apply(self, def: &mut DomainDef) -> Result<(), Error> {
        let invalid = |text: String| Err(Error::new(Code::InvalidArgument, text));
        let mut ids = tuning::io_threads(def);
        match self {
            Self::Add(0) => return invalid("io threads are numbered from 1 on".to_owned()),
            Self::Add(id) if ids.contains(&id) => {
                return invalid(format!("the domain has an io thread {id} already"));
            }
            Self::Add(_) if ids.len() >= MOST_IO_THREADS as usize => {
                return invalid(format!("a domain has up to {MOST_IO_THREADS} io threads"));
            }
            Self::Add(id) => ids.push(id),
            Self::Remove(id) => {
                if !ids.contains(&id) {
                    return invalid(format!("the domain has no io thread {id}"));
                }
                if let Some(user) = user_of(def, id) {
                    return invalid(format!("io thread {id} serves {user}"));
                }
                ids.retain(|there| *there != id);
                let mut tune = def.cpu_tune.take().unwrap_or_default();
                tune.iothread_pins.retain(|pin| pin.iothread != id);
                def.cpu_tune = Some(tune).filter(|tune| *tune != CpuTune::default());
            }
        }
        let mut old = def.iothread_ids.take().map(|ids| ids.threads).unwrap_or_default();
        let thread = |id: u32| match old.iter().position(|thread| thread.id == id) {
            Some(at) => old.swap_remove(at),
            None => IoThread { id, thread_pool_min: None, thread_pool_max: None },
        };
        let threads: Vec<_> = ids.into_iter().map(thread).collect();
        def.iothreads = u32::try_from(threads.len()).ok().filter(|count| *count > 0);
        def.iothread_ids = (!threads.is_empty()).then_some(IoThreadIds { threads });
        Ok(())
    }
}

fn user_of(def: &DomainDef, id: u32) -> Option<String> {
    let disk = def
        .devices
        .disks
        .iter()
        .find(|disk| disk.driver.as_ref().is_some_and(|driver| driver.iothread == Some(id)));
    let controller = || {
        def.devices.controllers.iter().find(|controller| {
            controller.driver.as_ref().is_some_and(|driver| driver.iothread == Some(id))
        })
    };
    let disk = disk.map(|disk| format!("disk {}", disk.target.dev));
    disk.or_else(|| controller().map(|_| "a controller".to_owned()))
}

impl Actor {
    pub(super) async fn change_io_threads(
        &mut self,
        change: IoThreadChange,
        affects: Affects,
    ) -> Result<(), Error> {
        if affects.live || (!affects.config && self.run.is_some()) {
            self.running()?;
            let text = "the threads of a running guest are those that it was started with: a \
                        confined VMM makes none; change the definition for its next start (--config)";
            return Err(Error::new(Code::InvalidState, text));
        }
        if let Some((stored, def)) = self.stored_changed(|def| change.apply(def))? {
            self.put(stored, def).await?;
            self.announce_lifecycle(Lifecycle::DefinedUpdated, None, None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(inner: &str, devices: &str) -> DomainDef {
        let text = format!(
            "<domain type='kvm'><name>a</name><memory unit='MiB'>64</memory>{inner}\
             <os><type>hvm</type></os><devices>{devices}</devices></domain>"
        );
        DomainDef::parse(&text).unwrap().value
    }

    #[test]
    fn threads_come_and_go_by_number() {
        let mut def = def("<iothreads>2</iothreads>", "");
        IoThreadChange::Add(7).apply(&mut def).unwrap();
        assert_eq!(tuning::io_threads(&def), [1, 2, 7]);
        IoThreadChange::Remove(1).apply(&mut def).unwrap();
        assert_eq!((tuning::io_threads(&def), def.iothreads), (vec![2, 7], Some(2)));
        for wrong in [IoThreadChange::Add(0), IoThreadChange::Add(7), IoThreadChange::Remove(1)] {
            assert_eq!(wrong.apply(&mut def).unwrap_err().code, Code::InvalidArgument);
        }
        IoThreadChange::Remove(2).apply(&mut def).unwrap();
        IoThreadChange::Remove(7).apply(&mut def).unwrap();
        assert_eq!((def.iothreads, def.iothread_ids), (None, None));
    }

    #[test]
    fn one_that_serves_a_disk_stays() {
        let disk = "<disk type='file' device='disk'><driver name='qemu' type='raw' iothread='1'/>\
                    <source file='/a'/><target dev='vda' bus='virtio'/></disk>";
        let mut def = def("<iothreads>1</iothreads>", disk);
        let error = IoThreadChange::Remove(1).apply(&mut def).unwrap_err();
        assert_eq!(error.to_string(), "io thread 1 serves disk vda");
        assert_eq!(tuning::io_threads(&def), [1]);
    }
}
