//! What libvirt has for hosts and hypervisors that Manor is not: answered as libvirt does there, in words that say why.

use management::ops::FindDomain;

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::Domain;
use super::super::protocol::typed::{Parameter, Parameters, Value};
use super::super::table::Passed;
use super::Client;

/// Of domains that are there, and that the client may see.
async fn there(client: &Client, domain: &Domain) -> Result<(), Failure> {
    client.domain(FindDomain { domain: domain.reference() }).await.map(drop)
}

/// Those of libvirt 9.0.0, none of which is counted.
const PERF_EVENTS: [&str; 22] = [
    "cmt",
    "mbmt",
    "mbml",
    "cpu_cycles",
    "instructions",
    "cache_references",
    "cache_misses",
    "branch_instructions",
    "branch_misses",
    "bus_cycles",
    "stalled_cycles_frontend",
    "stalled_cycles_backend",
    "ref_cpu_cycles",
    "cpu_clock",
    "task_clock",
    "page_faults",
    "context_switches",
    "cpu_migrations",
    "page_faults_min",
    "page_faults_maj",
    "alignment_faults",
    "emulation_faults",
];

pub(crate) async fn perf_events(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<Parameters, Failure> {
    super::affects(flags, 4, "virDomainGetPerfEvents")?;
    there(&client, &domain).await?;
    let mut told = Parameters::default();
    for name in PERF_EVENTS {
        told.add(name, Value::Boolean(false));
    }
    Ok(told)
}

pub(crate) async fn set_perf_events(
    client: Client,
    (domain, events, flags): (Domain, Vec<Parameter>, u32),
) -> Result<(), Failure> {
    super::affects(flags, 4, "virDomainSetPerfEvents")?;
    there(&client, &domain).await?;
    for event in &events {
        if !PERF_EVENTS.contains(&&*event.field) {
            let text = format!("there is no perf event {:?}", event.field);
            return Err(Failure::invalid_argument(Area::Domain, &text));
        }
        if event.value != Value::Boolean(false) {
            let text = format!(
                "Manor counts no perf events ({}); perf on the host does: perf kvm stat",
                event.field
            );
            return Err(Failure::operation_unsupported(&text));
        }
    }
    Ok(())
}

pub(crate) async fn launch_security(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<Parameters, Failure> {
    known_flags(flags, 4, "virDomainGetLaunchSecurityInfo")?;
    there(&client, &domain).await?;
    Err(Failure::operation_unsupported(NO_SEV))
}

pub(crate) async fn set_launch_security(
    client: Client,
    (domain, _, flags): (Domain, Vec<Parameter>, u32),
) -> Result<(), Failure> {
    known_flags(flags, 4, "virDomainSetLaunchSecurityState")?;
    there(&client, &domain).await?;
    Err(Failure::operation_unsupported(NO_SEV))
}

const NO_SEV: &str = "guests' memory is not encrypted: Manor has no launch security (SEV)";

pub(crate) async fn process_signal(
    client: Client,
    (domain, _, _, flags): (Domain, i64, u32, u32),
) -> Result<(), Failure> {
    known_flags(flags, 0, "virDomainSendProcessSignal")?;
    there(&client, &domain).await?;
    Err(Failure::no_support("signals reach processes of containers, not those inside a machine"))
}

/// As libvirt's driver of QEMU, which lacks both: descriptors are inherited by the init of a container.
pub(crate) async fn create_with_files(
    client: Client,
    call: Passed<(Domain, u32)>,
) -> Result<Domain, Failure> {
    there(&client, &call.arguments.0).await?;
    Err(Failure::no_support(NO_INIT))
}

pub(crate) async fn create_xml_with_files(
    _client: Client,
    _call: Passed<(String, u32)>,
) -> Result<Domain, Failure> {
    Err(Failure::no_support(NO_INIT))
}

const NO_INIT: &str =
    "descriptors are passed to the init of a container, and a machine has none; start it without";

pub(crate) async fn associate_files(
    client: Client,
    call: Passed<(Domain, String, u32)>,
) -> Result<(), Failure> {
    let (domain, name, _) = call.arguments;
    there(&client, &domain).await?;
    let text = format!(
        "disks are opened by their paths, and not by descriptors (fdgroup {name:?}); name the file in <source file='…'/>"
    );
    Err(Failure::operation_unsupported(&text))
}

/// There is no security driver, and so no label.
pub(crate) async fn security_labels(
    client: Client,
    domain: Domain,
) -> Result<(Vec<(String, i32)>, i32), Failure> {
    there(&client, &domain).await?;
    Ok((Vec::new(), 0))
}

/// Nobody sleeps in a way that another could end.
pub(crate) async fn wake_up(client: Client, (domain, flags): (Domain, u32)) -> Result<(), Failure> {
    known_flags(flags, 0, "virDomainPMWakeup")?;
    there(&client, &domain).await?;
    let text = "the domain is not suspended by its guest; one that sleeps on its disk is started";
    Err(Failure::invalid_state(Area::Domain, text))
}

pub(crate) async fn set_io_thread(
    client: Client,
    (domain, _, _, flags): (Domain, u32, Vec<Parameter>, u32),
) -> Result<(), Failure> {
    super::affects(flags, 4, "virDomainSetIOThreadParams")?;
    there(&client, &domain).await?;
    Err(Failure::operation_unsupported("io threads here wait for events, and poll for nothing"))
}
