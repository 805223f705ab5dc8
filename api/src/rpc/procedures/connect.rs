//! Opening and closing, and what a client asks of the other side before it works with it.

use management::Driver;
use management::ops::{GetCapabilities, GetDomainCapabilities, GetNode};

use super::super::failure::{Area, Failure, known_flags};
use super::Client;

const READ_ONLY: u32 = 1;
/// Clients hold what they may do against this version; a server that is older is not asked for much.
const LIBVIRT_VERSION: u64 = 9_000_000;

/// Names under which this is reached: clients decide by them what they are talking to. Where nothing
/// runs guests, that can be tested, too.
fn is_ours(name: &str, driver: Driver) -> bool {
    match name.split('?').next().unwrap_or_default() {
        "" | "qemu:///system" | "qemu:///session" | "manor:///system" | "manor:///" => true,
        name => driver == Driver::Test && is_test(name),
    }
}

fn is_test(name: &str) -> bool {
    matches!(name, "test:///default" | "test:///")
}

/// What is opened by who names nothing.
fn usual(driver: Driver) -> &'static str {
    match driver {
        Driver::Kvm => "qemu:///system",
        Driver::Test => "test:///default",
    }
}

pub(crate) async fn open(
    client: Client,
    (name, flags): (Option<String>, u32),
) -> Result<(), Failure> {
    // Of a session: whose it is, and that the client would have started a daemon for it. Here it is whose the socket is.
    const USER: u32 = 2;
    const AUTOSTART: u32 = 4;
    known_flags(flags, READ_ONLY | USER | AUTOSTART, "virConnectOpen")?;
    let name = name.unwrap_or_default();
    if !is_ours(&name, client.driver()) {
        let text = format!("{name:?} is not here; there is {}", usual(client.driver()));
        return Err(Failure::no_connect(text));
    }
    client.open(name, flags & READ_ONLY != 0)
}

pub(crate) async fn close(client: Client, (): ()) -> Result<(), Failure> {
    client.close();
    Ok(())
}

pub(crate) async fn supports_feature(client: Client, feature: i32) -> Result<bool, Failure> {
    const FD_PASSING: i32 = 8;
    const TYPED_PARAM_STRING: i32 = 9;
    const KEEPALIVE: i32 = 10;
    const EVENT_CALLBACK: i32 = 14;
    const CLOSE_CALLBACK: i32 = 15;
    const NETWORK_UPDATE_ORDER: i32 = 16;
    Ok(match feature {
        TYPED_PARAM_STRING | EVENT_CALLBACK | CLOSE_CALLBACK | NETWORK_UPDATE_ORDER => true,
        KEEPALIVE => {
            // Others have no code for it, and would take a ping for something of theirs.
            client.answers_pings();
            true
        }
        FD_PASSING => client.takes_files(),
        _ => false,
    })
}

pub(crate) async fn get_type(client: Client, (): ()) -> Result<&'static str, Failure> {
    let opened = uri(client, ()).await?;
    // Tools take what is called otherwise for something that they know nothing of.
    Ok(if is_test(opened.split('?').next().unwrap_or_default()) { "TEST" } else { "QEMU" })
}

/// Manor's own version, as libvirt writes versions of hypervisors.
pub(crate) async fn version(client: Client, (): ()) -> Result<u64, Failure> {
    let node = client.ask(Area::Node, GetNode).await?;
    let mut parts = node.version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0_u64);
    Ok(next() * 1_000_000 + next() * 1000 + next())
}

pub(crate) async fn lib_version(_: Client, (): ()) -> Result<u64, Failure> {
    Ok(LIBVIRT_VERSION)
}

pub(crate) async fn hostname(client: Client, (): ()) -> Result<String, Failure> {
    Ok(client.ask(Area::Node, GetNode).await?.hostname)
}

pub(crate) async fn uri(client: Client, (): ()) -> Result<String, Failure> {
    let opened = client.opened().unwrap_or_default();
    Ok(if opened.is_empty() { usual(client.driver()).to_owned() } else { opened })
}

pub(crate) async fn is_secure(_: Client, (): ()) -> Result<bool, Failure> {
    Ok(true)
}

pub(crate) async fn capabilities(client: Client, (): ()) -> Result<String, Failure> {
    client.ask(Area::Node, GetCapabilities).await
}

type Wanted = (Option<String>, Option<String>, Option<String>, Option<String>, u32);

pub(crate) async fn domain_capabilities(
    client: Client,
    (_emulator, architecture, machine, virt_type, flags): Wanted,
) -> Result<String, Failure> {
    known_flags(flags, 0, "virConnectGetDomainCapabilities")?;
    client.ask(Area::Node, GetDomainCapabilities { architecture, machine, virt_type }).await
}

pub(crate) async fn max_vcpus(_: Client, _kind: Option<String>) -> Result<i32, Failure> {
    Ok(i32::from(management::ops::MAX_VCPUS))
}

pub(crate) async fn cpu_models(
    _: Client,
    (architecture, wanted, flags): (String, i32, u32),
) -> Result<(Vec<String>, i32), Failure> {
    known_flags(flags, 0, "virConnectGetCPUModelNames")?;
    if architecture != "x86_64" {
        let text = format!("architecture {architecture:?} is not x86_64");
        return Err(Failure::invalid_argument(Area::Node, &text));
    }
    let (names, count) = super::listed(management::ops::cpu_model_names(), wanted);
    Ok((names, i32::try_from(count).unwrap_or(i32::MAX)))
}

pub(crate) async fn register_close(client: Client, (): ()) -> Result<(), Failure> {
    client.tell_of_closing(true)
}

pub(crate) async fn unregister_close(client: Client, (): ()) -> Result<(), Failure> {
    client.tell_of_closing(false)
}
