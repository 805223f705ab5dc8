//! Processors, compared with the host's and with each other.

use management::ops::{BaselineCpu, CompareCpu, CpuComparison};

use super::super::failure::{Area, Failure, known_flags};
use super::Client;

/// Documents of one question.
const MOST: usize = 256;

pub(crate) async fn compare(client: Client, (xml, flags): (String, u32)) -> Result<i32, Failure> {
    const FAIL_INCOMPATIBLE: u32 = 1;
    const VALIDATE_XML: u32 = 2;
    known_flags(flags, FAIL_INCOMPATIBLE | VALIDATE_XML, "virConnectCompareCPU")?;
    let (found, lacking) = client.ask(Area::Node, CompareCpu { xml }).await?;
    match found {
        CpuComparison::Incompatible if flags & FAIL_INCOMPATIBLE != 0 => {
            Err(Failure::incompatible_cpu(&lacking.join(", ")))
        }
        CpuComparison::Incompatible => Ok(0),
        CpuComparison::Identical => Ok(1),
        CpuComparison::Superset => Ok(2),
    }
}

pub(crate) async fn baseline(
    client: Client,
    (documents, flags): (Vec<String>, u32),
) -> Result<String, Failure> {
    const EXPAND: u32 = 1;
    // Of what Manor gives a guest all can be moved.
    const MIGRATABLE: u32 = 2;
    known_flags(flags, EXPAND | MIGRATABLE, "virConnectBaselineCPU")?;
    if documents.len() > MOST {
        let text = format!("{} processors are more than {MOST}", documents.len());
        return Err(Failure::invalid_argument(Area::Node, &text));
    }
    client.ask(Area::Node, BaselineCpu { documents, expand: flags & EXPAND != 0 }).await
}

/// Which hypervisor is asked about (its path, architecture, machine and kind), and what.
type Asked<T> = (Option<String>, Option<String>, Option<String>, Option<String>, T, u32);

/// There is one hypervisor.
fn is_ours(architecture: Option<&str>, kind: Option<&str>) -> Result<(), Failure> {
    let refused = |what: &str, given: &str, known: &str| {
        let text = format!("there is no {what} {given:?}; there is {known}");
        Err(Failure::invalid_argument(Area::Node, &text))
    };
    match (architecture, kind) {
        (Some(other), _) if other != "x86_64" => refused("architecture", other, "x86_64"),
        (_, Some(other)) if !matches!(other, "kvm" | "test") => {
            refused("virtualization type", other, "kvm")
        }
        _ => Ok(()),
    }
}

pub(crate) async fn compare_hypervisor(
    client: Client,
    (_, architecture, _, kind, xml, flags): Asked<String>,
) -> Result<i32, Failure> {
    is_ours(architecture.as_deref(), kind.as_deref())?;
    compare(client, (xml, flags)).await
}

pub(crate) async fn baseline_hypervisor(
    client: Client,
    (_, architecture, _, kind, documents, flags): Asked<Vec<String>>,
) -> Result<String, Failure> {
    is_ours(architecture.as_deref(), kind.as_deref())?;
    baseline(client, (documents, flags)).await
}
