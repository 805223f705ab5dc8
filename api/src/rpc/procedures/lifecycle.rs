//! Domains: defined, started, stopped, forgotten.

use std::time::Duration;

use management::domain::{
    DomainId, DomainRef, LifecycleCause, LifecycleChange, LifecycleEnd, TurnChange, Variables,
};
use management::ops::{
    AskMode, CreateDomain, DefineDomain, DestroyDomain, FindDomain, InjectNmi, RebootDomain,
    RenameDomain, ResetDomain, ResumeDomain, SendKeys, SetAutostart, SetLifecycleAction,
    ShutdownDomain, StartDomain, SuspendDomain, TakeScreenshot, UndefineDomain,
};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::Domain;
use super::super::stream::Stream;
use super::super::table::Streaming;
use super::Client;

const VALIDATE_DEFINITION: u32 = 1;

const START_PAUSED: u32 = 1;
/// The guest ends with the connection.
const AUTODESTROY: u32 = 2;
const BYPASS_CACHE: u32 = 4;
const FORCE_BOOT: u32 = 8;
const VALIDATE: u32 = 16;
const RESET_NVRAM: u32 = 32;
/// A definition is always validated; what is read of a saved state may stay in the host's cache.
const START_FLAGS: u32 =
    START_PAUSED | AUTODESTROY | BYPASS_CACHE | FORCE_BOOT | VALIDATE | RESET_NVRAM;

async fn found(client: &Client, domain: DomainRef) -> Result<Domain, Failure> {
    Ok(Domain::from(&client.domain(FindDomain { domain }).await?))
}

fn complaints(domain: &DomainId, warnings: &[management::Problem]) {
    for warning in warnings {
        tracing::info!(domain = domain.name, %warning, "left out of a definition");
    }
}

pub(crate) async fn define(client: Client, xml: String) -> Result<Domain, Failure> {
    define_flags(client, (xml, 0)).await
}

pub(crate) async fn define_flags(
    client: Client,
    (xml, flags): (String, u32),
) -> Result<Domain, Failure> {
    known_flags(flags, VALIDATE_DEFINITION, "virDomainDefineXMLFlags")?;
    let define = DefineDomain { xml, cloud_init: None, check_only: false };
    let defined = client.domain(define).await?;
    complaints(&defined.domain, &defined.warnings);
    found(&client, defined.domain.uuid.into()).await
}

pub(crate) async fn create_xml(
    client: Client,
    (xml, flags): (String, u32),
) -> Result<Domain, Failure> {
    known_flags(flags, START_FLAGS, "virDomainCreateXML")?;
    let create = CreateDomain {
        xml,
        cloud_init: None,
        paused: flags & START_PAUSED != 0,
        reset_variables: flags & RESET_NVRAM != 0,
    };
    let created = client.domain(create).await?;
    complaints(&created.domain, &created.warnings);
    let domain = found(&client, created.domain.uuid.into()).await?;
    bind(&client, &domain, flags);
    Ok(domain)
}

fn bind(client: &Client, domain: &Domain, flags: u32) {
    if let (Ok(number), true) = (u32::try_from(domain.id), flags & AUTODESTROY != 0) {
        client.bind(number);
    }
}

pub(crate) async fn create(client: Client, domain: Domain) -> Result<(), Failure> {
    create_flags(client, (domain, 0)).await.map(drop)
}

pub(crate) async fn create_flags(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<Domain, Failure> {
    known_flags(flags, START_FLAGS, "virDomainCreateWithFlags")?;
    let start = StartDomain {
        domain: domain.reference(),
        paused: flags & START_PAUSED != 0,
        reset_variables: flags & RESET_NVRAM != 0,
        force_boot: flags & FORCE_BOOT != 0,
        force: false,
    };
    client.domain(start).await?;
    let domain = found(&client, domain.reference()).await?;
    bind(&client, &domain, flags);
    Ok(domain)
}

/// Of shutting down and of rebooting alike.
fn modes(flags: u32, procedure: &str) -> Result<Vec<AskMode>, Failure> {
    const ACPI: u32 = 1;
    const AGENT: u32 = 2;
    known_flags(flags, ACPI | AGENT, procedure)?;
    let named = [(ACPI, AskMode::Acpi), (AGENT, AskMode::Agent)];
    Ok(named.into_iter().filter(|(flag, _)| flags & flag != 0).map(|(_, mode)| mode).collect())
}

pub(crate) async fn shutdown(client: Client, domain: Domain) -> Result<(), Failure> {
    shutdown_flags(client, (domain, 0)).await
}

pub(crate) async fn shutdown_flags(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<(), Failure> {
    let modes = modes(flags, "virDomainShutdownFlags")?;
    client.domain(ShutdownDomain { domain: domain.reference(), modes }).await
}

pub(crate) async fn reboot(client: Client, (domain, flags): (Domain, u32)) -> Result<(), Failure> {
    let modes = modes(flags, "virDomainReboot")?;
    client.domain(RebootDomain { domain: domain.reference(), modes }).await
}

pub(crate) async fn reset(client: Client, (domain, flags): (Domain, u32)) -> Result<(), Failure> {
    known_flags(flags, 0, "virDomainReset")?;
    client.domain(ResetDomain { domain: domain.reference() }).await
}

pub(crate) async fn destroy(client: Client, domain: Domain) -> Result<(), Failure> {
    destroy_flags(client, (domain, 0)).await
}

pub(crate) async fn destroy_flags(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<(), Failure> {
    const GRACEFUL: u32 = 1;
    known_flags(flags, GRACEFUL, "virDomainDestroyFlags")?;
    let graceful = flags & GRACEFUL != 0;
    client.domain(DestroyDomain { domain: domain.reference(), graceful }).await
}

pub(crate) async fn suspend(client: Client, domain: Domain) -> Result<(), Failure> {
    client.domain(SuspendDomain { domain: domain.reference() }).await
}

pub(crate) async fn resume(client: Client, domain: Domain) -> Result<(), Failure> {
    client.domain(ResumeDomain { domain: domain.reference() }).await
}

pub(crate) async fn undefine(client: Client, domain: Domain) -> Result<(), Failure> {
    undefine_flags(client, (domain, 0)).await
}

pub(crate) async fn undefine_flags(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<(), Failure> {
    const MANAGED_SAVE: u32 = 1;
    const SNAPSHOTS: u32 = 2;
    const NVRAM: u32 = 4;
    const KEEP_NVRAM: u32 = 8;
    const CHECKPOINTS: u32 = 16;
    // Checkpoints go with their domain in any case.
    let known = MANAGED_SAVE | SNAPSHOTS | NVRAM | KEEP_NVRAM | CHECKPOINTS;
    known_flags(flags, known, "virDomainUndefineFlags")?;
    let variables = match (flags & NVRAM != 0, flags & KEEP_NVRAM != 0) {
        (true, true) => {
            let text = "variables cannot be kept and deleted at once";
            return Err(Failure::invalid_argument(Area::Domain, text));
        }
        (true, false) => Some(Variables::Delete),
        (false, true) => Some(Variables::Keep),
        (false, false) => None,
    };
    let managed_save = flags & MANAGED_SAVE != 0;
    let snapshots = flags & SNAPSHOTS != 0;
    let domain = domain.reference();
    client.domain(UndefineDomain { domain, variables, managed_save, snapshots }).await
}

pub(crate) async fn rename(
    client: Client,
    (domain, name, flags): (Domain, Option<String>, u32),
) -> Result<i32, Failure> {
    known_flags(flags, 0, "virDomainRename")?;
    let Some(name) = name else {
        return Err(Failure::invalid_argument(Area::Domain, "the new name is missing"));
    };
    client.domain(RenameDomain { domain: domain.reference(), name }).await?;
    Ok(0)
}

pub(crate) async fn set_autostart(
    client: Client,
    (domain, autostart): (Domain, i32),
) -> Result<(), Failure> {
    let autostart = autostart != 0;
    // Its turn is kept: clients of libvirt know of none.
    client
        .domain(SetAutostart { domain: domain.reference(), autostart, turn: TurnChange::default() })
        .await
}

pub(crate) async fn send_key(
    client: Client,
    (domain, codeset, hold, keys, flags): (Domain, u32, u32, Vec<u32>, u32),
) -> Result<(), Failure> {
    known_flags(flags, 0, "virDomainSendKey")?;
    let names =
        ["linux", "xt", "atset1", "atset2", "atset3", "os_x", "xt_kbd", "usb", "win32", "qnum"];
    let named = usize::try_from(codeset).ok().and_then(|at| names.get(at));
    let Some(codeset) = named else {
        let text = format!("there is no codeset {codeset}");
        return Err(Failure::invalid_argument(Area::Domain, &text));
    };
    let send = SendKeys {
        domain: domain.reference(),
        keys: keys.iter().map(u32::to_string).collect(),
        codeset: (*codeset).to_owned(),
        hold: Duration::from_millis(hold.into()),
    };
    client.domain(send).await
}

pub(crate) async fn screenshot(
    client: Client,
    (domain, screen, flags): (Domain, u32, u32),
) -> Result<Streaming<Option<&'static str>>, Failure> {
    known_flags(flags, 0, "virDomainScreenshot")?;
    if screen != 0 {
        let text = format!("there is no screen {screen}");
        return Err(Failure::invalid_argument(Area::Domain, &text));
    }
    let picture = client.domain(TakeScreenshot { domain: domain.reference() }).await?;
    Ok(Streaming { answer: Some("image/png"), stream: Stream::Picture(picture.into()) })
}

pub(crate) async fn inject_nmi(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<(), Failure> {
    known_flags(flags, 0, "virDomainInjectNMI")?;
    client.domain(InjectNmi { domain: domain.reference() }).await
}

pub(crate) async fn set_action(
    client: Client,
    (domain, cause, action, flags): (Domain, u32, u32, u32),
) -> Result<(), Failure> {
    const ACTIONS: [&str; 6] = [
        "destroy",
        "restart",
        "rename-restart",
        "preserve",
        "coredump-destroy",
        "coredump-restart",
    ];
    let affects = super::affects(flags, 0, "virDomainSetLifecycleAction")?;
    let unknown = |what: &str, number: u32| {
        Failure::invalid_argument(Area::Domain, &format!("there is no lifecycle {what} {number}"))
    };
    let cause = match cause {
        0 => LifecycleCause::Poweroff,
        1 => LifecycleCause::Reboot,
        2 => LifecycleCause::Crash,
        other => return Err(unknown("type", other)),
    };
    let word = usize::try_from(action).ok().and_then(|at| ACTIONS.get(at));
    let word = word.ok_or_else(|| unknown("action", action))?;
    let end =
        LifecycleEnd::of(word).map_err(|error| Failure::operation_unsupported(&error.chain()))?;
    let change = LifecycleChange { cause, end };
    client.domain(SetLifecycleAction { domain: domain.reference(), change, affects }).await
}
