//! Saved states and cores of domains.

use std::path::PathBuf;

use management::domain::{DumpMode, SaveFormat};
use management::ops::{
    DefineManagedSave, DefineSaved, DropManagedSave, DumpDomain, DumpManagedSave, DumpSaved,
    ManagedSave, RestoreDomain, SaveDomain,
};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::Domain;
use super::super::protocol::typed::{Parameter, Value};
use super::{Client, jobs};

const BYPASS_CACHE: u32 = 1;
const RUNNING: u32 = 2;
const PAUSED: u32 = 4;
/// Of what is restored alone.
const RESET_NVRAM: u32 = 8;
const SAVE_FLAGS: u32 = BYPASS_CACHE | RUNNING | PAUSED;
/// Definitions come with their secrets in any case: whoever may read them here may read those.
const SECURE: u32 = 1;

/// In which state it is to go on; none: in that in which it was.
fn running(flags: u32) -> Result<Option<bool>, Failure> {
    match (flags & RUNNING != 0, flags & PAUSED != 0) {
        (true, true) => {
            let text = "a domain cannot go on running and paused at once";
            Err(Failure::invalid_argument(Area::Domain, text))
        }
        (false, false) => Ok(None),
        (running, _) => Ok(Some(running)),
    }
}

/// libvirt's library makes paths absolute before they come here; nothing else could be meant.
fn absolute(file: String) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(&file);
    if path.is_absolute() {
        return Ok(path);
    }
    let text = format!("{file:?} is no absolute path on this host");
    Err(Failure::invalid_argument(Area::Domain, &text))
}

pub(crate) async fn save(client: Client, (domain, file): (Domain, String)) -> Result<(), Failure> {
    save_flags(client, (domain, file, None, 0)).await
}

pub(crate) async fn save_flags(
    client: Client,
    (domain, file, xml, flags): (Domain, String, Option<String>, u32),
) -> Result<(), Failure> {
    save_as(client, (domain, file, xml, flags), None).await
}

async fn save_as(
    client: Client,
    (domain, file, xml, flags): (Domain, String, Option<String>, u32),
    format: Option<SaveFormat>,
) -> Result<(), Failure> {
    known_flags(flags, SAVE_FLAGS, "virDomainSaveFlags")?;
    let save = SaveDomain {
        domain: domain.reference(),
        file: absolute(file)?,
        xml,
        running: running(flags)?,
        bypass_cache: flags & BYPASS_CACHE != 0,
        format,
    };
    let job = client.domain(save).await?;
    jobs::ended(&client, Area::Domain, &job).await
}

/// What virDomainSaveParams and virDomainRestoreParams take.
#[derive(Debug, Default, PartialEq)]
struct Given {
    file: Option<String>,
    xml: Option<String>,
    /// Of a save.
    format: Option<String>,
}

fn given(parameters: Vec<Parameter>) -> Result<Given, Failure> {
    let mut given = Given::default();
    for Parameter { field, value } in parameters {
        let place = match &*field {
            "file" => &mut given.file,
            "dxml" => &mut given.xml,
            "image_format" => &mut given.format,
            _ => {
                let text = format!(
                    "parameter {field:?} is not known here: file, dxml and image_format are"
                );
                return Err(Failure::unsupported(Area::Domain, &text));
            }
        };
        let Value::String(text) = value else {
            let text = format!("parameter {field:?} is no string");
            return Err(Failure::invalid_argument(Area::Domain, &text));
        };
        if place.replace(text).is_some() {
            let text = format!("parameter {field:?} is given twice");
            return Err(Failure::invalid_argument(Area::Domain, &text));
        }
    }
    Ok(given)
}

pub(crate) async fn save_params(
    client: Client,
    (domain, parameters, flags): (Domain, Vec<Parameter>, u32),
) -> Result<(), Failure> {
    let given = given(parameters)?;
    let format = given.format.as_deref().map(save_format).transpose()?;
    match (given.file, given.xml) {
        (Some(file), xml) => save_as(client, (domain, file, xml, flags), format).await,
        (None, None) => managed_save_as(client, (domain, flags), format).await,
        (None, Some(_)) => {
            let text = "a managed save takes no other definition (dxml): name a file, or change it \
                        afterwards (managedsave-define)";
            Err(Failure::invalid_argument(Area::Domain, text))
        }
    }
}

fn save_format(name: &str) -> Result<SaveFormat, Failure> {
    match name {
        // libvirt's "sparse" is what Manor's "raw" is: a mapped layout with holes.
        "raw" | "sparse" => Ok(SaveFormat::Raw),
        "zstd" => Ok(SaveFormat::Zstd),
        _ => {
            let text = format!("image_format {name:?} is not provided: raw, sparse and zstd are");
            Err(Failure::unsupported(Area::Domain, &text))
        }
    }
}

pub(crate) async fn restore(client: Client, file: String) -> Result<(), Failure> {
    restore_flags(client, (file, None, 0)).await
}

pub(crate) async fn restore_flags(
    client: Client,
    (file, xml, flags): (String, Option<String>, u32),
) -> Result<(), Failure> {
    // Whether pages of the file stay in the host's cache changes nothing of what is restored.
    known_flags(flags, SAVE_FLAGS | RESET_NVRAM, "virDomainRestoreFlags")?;
    let (file, running) = (absolute(file)?, running(flags)?);
    let reset_variables = flags & RESET_NVRAM != 0;
    let (force, verify) = (false, false);
    let restore = RestoreDomain { file, xml, running, force, verify, reset_variables };
    client.domain(restore).await.map(drop)
}

pub(crate) async fn restore_params(
    client: Client,
    (parameters, flags): (Vec<Parameter>, u32),
) -> Result<(), Failure> {
    let Given { file, xml, format } = given(parameters)?;
    if format.is_some() {
        let text = "a saved state tells itself in which format it is (image_format)";
        return Err(Failure::unsupported(Area::Domain, text));
    }
    let Some(file) = file else {
        return Err(Failure::invalid_argument(Area::Domain, "parameter \"file\" is missing"));
    };
    restore_flags(client, (file, xml, flags)).await
}

pub(crate) async fn managed_save(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<(), Failure> {
    managed_save_as(client, (domain, flags), None).await
}

async fn managed_save_as(
    client: Client,
    (domain, flags): (Domain, u32),
    format: Option<SaveFormat>,
) -> Result<(), Failure> {
    known_flags(flags, SAVE_FLAGS, "virDomainManagedSave")?;
    let save = ManagedSave {
        domain: domain.reference(),
        running: running(flags)?,
        bypass_cache: flags & BYPASS_CACHE != 0,
        with_host: false,
        format,
    };
    let job = client.domain(save).await?;
    jobs::ended(&client, Area::Domain, &job).await
}

pub(crate) async fn managed_save_remove(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<(), Failure> {
    known_flags(flags, 0, "virDomainManagedSaveRemove")?;
    client.domain(DropManagedSave { domain: domain.reference() }).await
}

pub(crate) async fn managed_save_xml(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<String, Failure> {
    known_flags(flags, SECURE, "virDomainManagedSaveGetXMLDesc")?;
    let secure = flags & SECURE != 0;
    client.domain(DumpManagedSave { domain: domain.reference(), secure }).await
}

pub(crate) async fn managed_save_define(
    client: Client,
    (domain, xml, flags): (Domain, Option<String>, u32),
) -> Result<(), Failure> {
    known_flags(flags, RUNNING | PAUSED, "virDomainManagedSaveDefineXML")?;
    let running = running(flags)?;
    client.domain(DefineManagedSave { domain: domain.reference(), xml, running }).await
}

pub(crate) async fn image_xml(
    client: Client,
    (file, flags): (String, u32),
) -> Result<String, Failure> {
    known_flags(flags, SECURE, "virDomainSaveImageGetXMLDesc")?;
    client.domain(DumpSaved { file: absolute(file)?, secure: flags & SECURE != 0 }).await
}

pub(crate) async fn image_define(
    client: Client,
    (file, xml, flags): (String, String, u32),
) -> Result<(), Failure> {
    known_flags(flags, RUNNING | PAUSED, "virDomainSaveImageDefineXML")?;
    let (file, running) = (absolute(file)?, running(flags)?);
    client.domain(DefineSaved { file, xml: Some(xml), running }).await
}

/// What the guest does meanwhile, and afterwards.
fn mode(flags: u32) -> Result<DumpMode, Failure> {
    const CRASH: u32 = 1;
    const LIVE: u32 = 2;
    const RESET: u32 = 8;
    // Every core is of memory and registers alone.
    const MEMORY_ONLY: u32 = 16;
    known_flags(flags, CRASH | LIVE | RESET | MEMORY_ONLY, "virDomainCoreDump")?;
    match flags & !MEMORY_ONLY {
        0 => Ok(DumpMode::Paused),
        CRASH => Ok(DumpMode::Crash),
        LIVE => Ok(DumpMode::Live),
        RESET => Ok(DumpMode::Reset),
        _ => {
            let text = "of crash, live and reset, a dump takes one";
            Err(Failure::invalid_argument(Area::Domain, text))
        }
    }
}

pub(crate) async fn core_dump(
    client: Client,
    (domain, file, flags): (Domain, String, u32),
) -> Result<(), Failure> {
    let (file, mode) = (absolute(file)?, mode(flags)?);
    let job = client.domain(DumpDomain { domain: domain.reference(), file, mode }).await?;
    jobs::ended(&client, Area::Domain, &job).await
}

pub(crate) async fn core_dump_format(
    client: Client,
    (domain, file, format, flags): (Domain, String, u32, u32),
) -> Result<(), Failure> {
    const RAW: u32 = 0;
    if format != RAW {
        let text = "cores are written as ELF (--format elf), not compressed";
        return Err(Failure::unsupported(Area::Domain, text));
    }
    core_dump(client, (domain, file, flags)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        assert_eq!(running(0), Ok(None));
        assert_eq!(running(RUNNING), Ok(Some(true)));
        assert_eq!(running(PAUSED | BYPASS_CACHE), Ok(Some(false)));
        assert!(running(RUNNING | PAUSED).is_err());
        assert_eq!(mode(16), Ok(DumpMode::Paused));
        assert_eq!(mode(16 | 2), Ok(DumpMode::Live));
        // Live and crash; bypass the cache.
        assert!(mode(3).is_err());
        assert!(mode(4).is_err());
    }

    #[test]
    fn parameters_that_are_not_known_are_refused_by_name() {
        let text = |field: &str| Parameter {
            field: field.to_owned().into(),
            value: Value::String("/x".to_owned()),
        };
        let found = given(vec![text("file")]).unwrap();
        assert_eq!(found, Given { file: Some("/x".to_owned()), ..Given::default() });
        let unknown = given(vec![text("parallel.channels")]).unwrap_err();
        assert!(format!("{unknown:?}").contains("parallel.channels"), "{unknown:?}");
        assert_eq!(save_format("zstd"), Ok(SaveFormat::Zstd));
        assert!(format!("{:?}", save_format("lzop")).contains("lzop"));
        assert!(given(vec![text("file"), text("file")]).is_err());
        let number = Parameter { field: "file".into(), value: Value::Int(1) };
        assert!(given(vec![number]).is_err());
        assert!(absolute("relative".to_owned()).is_err());
    }
}
