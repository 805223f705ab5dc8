//! Pacemaker's resource agent for guests, asked as Pacemaker asks it.

use super::super::test_driver::Driver;
use super::{on, programs, run};

const AGENT: &str = "/usr/lib/ocf/resource.d/heartbeat/VirtualDomain";

/// Of Pacemaker's, by what its resource agents end with.
const SUCCESS: i32 = 0;
const ERROR: i32 = 1;
const NOT_INSTALLED: i32 = 5;
const NOT_RUNNING: i32 = 7;

/// The agent finds the name on a line of its own.
const GUEST: &str = "<domain type='kvm'>\n<name>web</name>\n<memory unit='MiB'>64</memory>\n<vcpu>2</vcpu>\n\
     <os><type>hvm</type></os>\n<devices><interface type='network'><source network='default'/>\
     <model type='virtio'/></interface></devices>\n</domain>\n";

const SETTINGS: [&str; 10] = [
    "OCF_ROOT=/usr/lib/ocf",
    "OCF_RESOURCE_INSTANCE=web",
    "OCF_RESOURCE_TYPE=VirtualDomain",
    "OCF_RESKEY_hypervisor=qemu:///system",
    "OCF_RESKEY_CRM_meta_timeout=60000",
    "OCF_RESKEY_CRM_meta_interval=0",
    // Nobody is there to be told.
    "OCF_RESKEY_autoset_utilization_cpu=false",
    "OCF_RESKEY_autoset_utilization_host_memory=false",
    "OCF_RESKEY_autoset_utilization_hv_memory=false",
    "HA_LOGFACILITY=none",
];

#[test]
fn a_cluster_starts_watches_and_stops_a_guest() {
    let Some(programs) = programs() else { return };
    let driver = Driver::new();
    driver.write("web.xml", GUEST);
    std::fs::create_dir(driver.home().join("state")).unwrap();
    let home = driver.home().display();
    let places = [format!("OCF_RESKEY_config={home}/web.xml"), format!("HA_RSCTMP={home}/state")];
    let ends = |action: &str, more: &[&str], status: i32| {
        let mut words = vec!["env"];
        words.extend(SETTINGS);
        words.extend(places.iter().map(String::as_str));
        words.extend(more);
        words.extend([AGENT, action]);
        let outcome = run(on(&driver, &programs, &words));
        assert_eq!(outcome.status, status, "{action}: {}{}", outcome.out, outcome.err);
        outcome.err
    };
    ends("validate-all", &[], SUCCESS);
    ends("validate-all", &["OCF_RESKEY_config=/nowhere.xml"], NOT_INSTALLED);
    ends("monitor", &[], NOT_RUNNING);
    ends("start", &[], SUCCESS);
    assert_eq!(driver.virsh("domstate web").out.trim(), "running");
    ends("start", &[], SUCCESS);
    ends("monitor", &[], SUCCESS);
    // It stays where it is, and the cluster is told so.
    ends("migrate_to", &["OCF_RESKEY_CRM_meta_migrate_target=node2"], ERROR);
    ends("monitor", &[], SUCCESS);
    ends("stop", &[], SUCCESS);
    ends("monitor", &[], NOT_RUNNING);
    ends("stop", &[], SUCCESS);
    // A cluster's guests are transient.
    assert_eq!(driver.virsh("list --all --name").out.trim(), "test");
    ends("start", &["OCF_RESKEY_force_stop=1"], SUCCESS);
    ends("stop", &["OCF_RESKEY_force_stop=1"], SUCCESS);
    ends("monitor", &[], NOT_RUNNING);
}
