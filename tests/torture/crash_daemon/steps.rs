//! [`Step`]: an operation, what it changes, and what is to be seen when it is done.

use std::time::{Duration, Instant};

use api::types::{
    self, Affects, BlockWork, CloneMode, CreateSnapshot, DomainAutostart, MadeVolume, Revert,
    SnapshotReach, StartBlockJob,
};

use crate::objects::{define, disk, domain, image, network, start};
use crate::rig::{PATIENCE, Rig, Trouble};

type Act = Box<dyn Fn(&Rig) -> Result<(), Trouble>>;

pub(super) struct Step {
    pub(super) name: &'static str,
    /// Kind and name of what it changes.
    pub(super) object: String,
    /// Facts that it makes true; `*`: any, of a process that was not there. None: the object is gone.
    pub(super) done: Option<Vec<(&'static str, String)>>,
    /// Facts that may change besides.
    pub(super) besides: &'static [&'static str],
    /// Facts that may change although it is not done yet: it goes on without a daemon.
    pub(super) meanwhile: &'static [&'static str],
    pub(super) act: Act,
}

impl Step {
    fn new(
        name: &'static str,
        object: &str,
        done: &[(&'static str, &str)],
        act: impl Fn(&Rig) -> Result<(), Trouble> + 'static,
    ) -> Self {
        let done = done.iter().map(|(fact, value)| (*fact, (*value).to_owned())).collect();
        let (object, act) = (object.to_owned(), Box::new(act));
        Self { name, object, done: Some(done), besides: &[], meanwhile: &[], act }
    }

    fn removal(
        name: &'static str,
        object: &str,
        act: impl Fn(&Rig) -> Result<(), Trouble> + 'static,
    ) -> Self {
        Self { done: None, ..Self::new(name, object, &[], act) }
    }

    fn besides(self, besides: &'static [&'static str]) -> Self {
        Self { besides, ..self }
    }

    fn meanwhile(self, meanwhile: &'static [&'static str]) -> Self {
        Self { meanwhile, ..self }
    }
}

/// Each ends where it began, so that it can begin again.
pub(super) fn cycles(rig: &Rig) -> Vec<Vec<Step>> {
    vec![guest_cycle(rig), pool_cycle(rig), snapshot_cycle(rig), network_cycle()]
}

const OFF: &[(&str, &str)] = &[("state", "shut off"), ("process", "")];
const ON: &[(&str, &str)] = &[("state", "running"), ("process", "*")];

/// The life of a guest.
fn guest_cycle(rig: &Rig) -> Vec<Step> {
    let name = format!("guest-{}", rig.tag);
    let object = format!("domain {name}");
    let step = |kind, done: &[(&'static str, &str)], act: fn(&Rig, &str) -> Result<(), Trouble>| {
        let name = name.clone();
        Step::new(kind, &object, done, move |rig: &Rig| act(rig, &name))
    };
    const LIVE: &[&str] = &["live disks"];
    vec![
        step("define", OFF, |rig, name| {
            // Fresh, whatever was tried before: nobody has them open while nothing is defined.
            for file in ["vda.qcow2", "vdb.qcow2"] {
                image(rig, file);
            }
            define(rig, domain(rig, name, "polling", &disk(rig, "vda.qcow2", "vda")))
        })
        .besides(&["files"]),
        step("autostart", &[("autostart", "true")], |rig, name| {
            let wanted = DomainAutostart {
                enabled: true,
                order: None,
                delay_s: None,
                shutdown_timeout_s: None,
                at_shutdown: None,
            };
            rig.ask(rig.client.set_autostart(name, wanted))
        }),
        step("start", ON, start).besides(LIVE),
        step("suspend", &[("state", "paused")], |rig, name| rig.ask(rig.client.suspend(name))),
        step("resume", &[("state", "running")], |rig, name| rig.ask(rig.client.resume(name))),
        // Two steps: what is cut short between them is done in the guest and not in the definition.
        step("attach", &[("live disks", "vda=vda.qcow2 vdb=vdb.qcow2")], |rig, name| {
            let affects = Affects { live: true, config: false };
            rig.ask(rig.client.attach_device(name, disk(rig, "vdb.qcow2", "vdb"), affects))
        }),
        step(
            "attach in the definition",
            &[("disks", "vda=vda.qcow2 vdb=vdb.qcow2")],
            |rig, name| {
                let affects = Affects { live: false, config: true };
                rig.ask(rig.client.attach_device(name, disk(rig, "vdb.qcow2", "vdb"), affects))
            },
        ),
        step("destroy", OFF, |rig, name| rig.ask(rig.client.destroy(name, false))).besides(LIVE),
        step(
            "detach",
            &[("disks", "vda=vda.qcow2"), ("live disks", "vda=vda.qcow2")],
            |rig, name| {
                let affects = Affects { live: false, config: true };
                rig.ask(rig.client.detach_device(name, "vdb", affects)).map(drop)
            },
        ),
        step("start again", ON, start).besides(LIVE),
        step(
            "managed save",
            &[("state", "shut off"), ("process", ""), ("saved", "true")],
            |rig, name| {
                let how = types::ManagedSave {
                    running: None,
                    bypass_cache: false,
                    with_host: false,
                    format: None,
                };
                let job = rig.ask(rig.client.managed_save(name, &how))?;
                rig.finish(&job)
            },
        )
        .besides(LIVE),
        step("restore", &[("state", "running"), ("process", "*"), ("saved", "false")], start)
            .besides(LIVE),
        step("shutdown", OFF, |rig, name| {
            rig.ask(rig.client.shutdown(name, None))?;
            loop {
                let state = rig.ask(rig.client.state(name))?;
                if state.state == types::StateName::ShutOff {
                    return Ok(());
                }
            }
        })
        .besides(LIVE),
        Step::removal("undefine", &object, {
            let name = name.clone();
            move |rig| rig.ask(rig.client.undefine(&name, None, true, true))
        }),
    ]
}

/// Snapshots and block jobs of a guest.
fn snapshot_cycle(rig: &Rig) -> Vec<Step> {
    let name = format!("snap-{}", rig.tag);
    let object = format!("domain {name}");
    let step = |kind, done: &[(&'static str, &str)], act: fn(&Rig, &str) -> Result<(), Trouble>| {
        let name = name.clone();
        Step::new(kind, &object, done, move |rig: &Rig| act(rig, &name))
    };
    fn snapshot(
        rig: &Rig,
        name: &str,
        xml: &str,
        disk_only: bool,
        known: bool,
    ) -> Result<(), Trouble> {
        let how = CreateSnapshot {
            xml: format!("<domainsnapshot>{xml}</domainsnapshot>"),
            disk_only,
            no_metadata: !known,
            ..CreateSnapshot::default()
        };
        let made = rig.ask(rig.client.create_snapshot(name, &how))?;
        rig.finish(&made.job)
    }
    // The guest's process goes on with what a dead daemon began, and the next one can end it.
    fn block_job(rig: &Rig, name: &str, work: BlockWork) -> Result<(), Trouble> {
        if rig.ask(rig.client.block_jobs(name))?.is_empty() {
            let job = StartBlockJob { work, bandwidth_bytes: 0 };
            rig.ask(rig.client.start_block_job(name, "vda", &job))?;
        }
        // Refused until it is ready.
        let until = Instant::now() + PATIENCE;
        loop {
            match rig.ask(rig.client.end_block_job(name, "vda", true)) {
                Err(Trouble::Refused(_)) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => break other?,
            }
        }
        while !rig.ask(rig.client.block_jobs(name))?.is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
    const LIVE: &[&str] = &["live disks"];
    const FILES: &[&str] = &["live disks", "files"];
    const JOB: &[&str] = &["files", "block jobs"];
    vec![
        step("define", OFF, |rig, name| {
            for file in ["overlay.qcow2", "copy.qcow2"] {
                let _ = std::fs::remove_file(rig.path("disks").join(file));
            }
            image(rig, "first.qcow2");
            define(rig, domain(rig, name, "resting", &disk(rig, "first.qcow2", "vda")))
        })
        .besides(&["files"]),
        step("snapshot inside", &[("snapshots", "inside")], |rig, name| {
            snapshot(rig, name, "<name>inside</name>", false, true)
        }),
        step("redefine", &[("title", "does what polling does")], |rig, name| {
            // What it is known by, its MAC address and its places on the bus stay.
            let xml = rig.ask(rig.client.xml(name, true, false))?;
            define(rig, xml.replace("resting", "polling"))
        }),
        step("revert", &[("title", "does what resting does")], |rig, name| {
            let job = rig.ask(rig.client.revert_to_snapshot(name, "inside", &Revert::default()))?;
            rig.finish(&job)
        }),
        step("delete snapshot", &[("snapshots", "")], |rig, name| {
            let reach = SnapshotReach::One;
            let job = rig.ask(rig.client.delete_snapshot(name, "inside", reach, false))?;
            rig.finish(&job)
        }),
        step("start", ON, start).besides(LIVE),
        step(
            "overlay",
            &[("disks", "vda=overlay.qcow2"), ("live disks", "vda=overlay.qcow2")],
            |rig, name| {
                let file = rig.path("disks/overlay.qcow2").display().to_string();
                let disk = format!(
                    "<disks><disk name='vda' snapshot='external'><source file='{file}'/></disk></disks>"
                );
                snapshot(rig, name, &disk, true, false)
            },
        )
        .besides(FILES),
        step(
            "commit and pivot",
            &[("disks", "vda=first.qcow2"), ("live disks", "vda=first.qcow2")],
            |rig, name| {
                let work = BlockWork::Commit {
                    base: None,
                    top: None,
                    shallow: false,
                    active: true,
                    delete: true,
                    relative: false,
                };
                block_job(rig, name, work)
            },
        )
        .besides(JOB)
        .meanwhile(JOB),
        step(
            "copy and pivot",
            &[("disks", "vda=copy.qcow2"), ("live disks", "vda=copy.qcow2")],
            |rig, name| {
                let path = rig.path("disks/copy.qcow2");
                let work = BlockWork::Copy {
                    path: path.display().to_string(),
                    format: None,
                    shallow: false,
                    reuse: path.exists(),
                };
                block_job(rig, name, work)
            },
        )
        .besides(JOB)
        .meanwhile(JOB),
        step("destroy", OFF, |rig, name| rig.ask(rig.client.destroy(name, false))).besides(LIVE),
        Step::removal("undefine", &object, {
            let name = name.clone();
            move |rig| rig.ask(rig.client.undefine(&name, None, true, true))
        }),
    ]
}

/// A pool and its volumes.
fn pool_cycle(rig: &Rig) -> Vec<Step> {
    let step = |kind, done: &[(&'static str, &str)], act: fn(&Rig) -> Result<(), Trouble>| {
        Step::new(kind, "pool pond", done, act)
    };
    fn made(rig: &Rig, made: MadeVolume) -> Result<(), Trouble> {
        match made {
            MadeVolume::Volume(_) => Ok(()),
            MadeVolume::Job(job) => rig.finish(&job),
        }
    }
    std::fs::create_dir(rig.path("pond")).unwrap();
    const SIZE: &str = "1048576";
    vec![
        step("define pool", &[("active", "false")], |rig| {
            let path = rig.path("pond").display().to_string();
            let xml = format!(
                "<pool type='dir'><name>pond</name><target><path>{path}</path></target></pool>"
            );
            rig.ask(rig.client.define_pool(xml, "")).map(drop)
        }),
        step("start pool", &[("active", "true")], |rig| {
            rig.ask(rig.client.pool_verb("pond", "start"))
        }),
        step("create volume", &[("volume one", SIZE)], |rig| {
            let xml = format!(
                "<volume><name>one</name><capacity>{SIZE}</capacity><target><format type='qcow2'/>\
                 </target></volume>"
            );
            made(rig, rig.ask(rig.client.create_volume("pond", xml, None))?)
        }),
        step("clone volume", &[("volume two", SIZE)], |rig| {
            made(rig, rig.ask(rig.client.clone_volume("pond", "one", "two", CloneMode::Copy))?)
        }),
        step("resize volume", &[("volume two", "2097152")], |rig| {
            let wanted = types::ResizeVolume {
                capacity_bytes: 2 << 20,
                delta: false,
                allocate: false,
                shrink: false,
            };
            rig.ask(rig.client.resize_volume("pond", "two", &wanted))
        }),
        step("delete volume", &[("volume one", "-")], |rig| {
            rig.ask(rig.client.delete_volume("pond", "one"))
        }),
        step("delete another", &[("volume two", "-")], |rig| {
            rig.ask(rig.client.delete_volume("pond", "two"))
        }),
        step("stop pool", &[("active", "false")], |rig| {
            rig.ask(rig.client.pool_verb("pond", "stop"))
        }),
        Step::removal("undefine pool", "pool pond", |rig| {
            rig.ask(rig.client.undefine_pool("pond"))
        }),
    ]
}

/// A virtual network beside the one that guests are in.
fn network_cycle() -> Vec<Step> {
    let step = |kind, done: &[(&'static str, &str)], act: fn(&Rig) -> Result<(), Trouble>| {
        Step::new(kind, "network other", done, act)
    };
    vec![
        step("define network", &[("active", "false")], |rig| {
            let xml = network("other", "virbr8", 78);
            rig.ask(rig.client.define_network(xml, "")).map(drop)
        }),
        step("network autostart", &[("autostart", "true")], |rig| {
            rig.ask(rig.client.set_network_autostart("other", true))
        }),
        step("start network", &[("active", "true"), ("problems", "")], |rig| {
            rig.ask(rig.client.network_verb("other", "start"))
        }),
        step("stop network", &[("active", "false")], |rig| {
            rig.ask(rig.client.network_verb("other", "stop"))
        }),
        Step::removal("undefine network", "network other", |rig| {
            rig.ask(rig.client.undefine_network("other"))
        }),
    ]
}
