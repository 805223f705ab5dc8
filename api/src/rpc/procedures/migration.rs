//! What clients set about moves to other hosts. There are none yet.

use management::ops::{FindDomain, GetMigrationSpeed, SetMigrationSpeed};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::Domain;
use super::Client;

/// Of the part of a move in which the guest runs there already: libvirt has it of running guests alone.
const POST_COPY: u32 = 1;

async fn running(client: &Client, domain: &Domain) -> Result<(), Failure> {
    let found = client.domain(FindDomain { domain: domain.reference() }).await?;
    match found.id {
        Some(_) => Ok(()),
        None => Err(Failure::invalid_state(Area::Domain, "domain is not running")),
    }
}

fn not_moved() -> Failure {
    Failure::invalid_state(Area::Domain, "domain is not being migrated: there is no live migration")
}

pub(crate) async fn max_speed(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<u64, Failure> {
    known_flags(flags, POST_COPY, "virDomainMigrateGetMaxSpeed")?;
    if flags & POST_COPY != 0 {
        running(&client, &domain).await?;
    }
    client.domain(GetMigrationSpeed { domain: domain.reference() }).await
}

pub(crate) async fn set_max_speed(
    client: Client,
    (domain, speed, flags): (Domain, u64, u32),
) -> Result<(), Failure> {
    known_flags(flags, POST_COPY, "virDomainMigrateSetMaxSpeed")?;
    if flags & POST_COPY != 0 {
        running(&client, &domain).await?;
        return Err(not_moved());
    }
    client.domain(SetMigrationSpeed { domain: domain.reference(), speed }).await
}

pub(crate) async fn max_downtime(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<u64, Failure> {
    known_flags(flags, 0, "virDomainMigrateGetMaxDowntime")?;
    running(&client, &domain).await?;
    Err(not_moved())
}

pub(crate) async fn set_max_downtime(
    client: Client,
    (domain, _, flags): (Domain, u64, u32),
) -> Result<(), Failure> {
    known_flags(flags, 0, "virDomainMigrateSetMaxDowntime")?;
    running(&client, &domain).await?;
    Err(not_moved())
}

/// As libvirt says it of a QEMU that does not compress.
fn not_compressed() -> Failure {
    Failure::operation_unsupported("memory on its way to another host is not compressed here")
}

pub(crate) async fn compression_cache(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<u64, Failure> {
    known_flags(flags, 0, "virDomainMigrateGetCompressionCache")?;
    running(&client, &domain).await?;
    Err(not_compressed())
}

pub(crate) async fn set_compression_cache(
    client: Client,
    (domain, _, flags): (Domain, u64, u32),
) -> Result<(), Failure> {
    known_flags(flags, 0, "virDomainMigrateSetCompressionCache")?;
    running(&client, &domain).await?;
    Err(not_compressed())
}

pub(crate) async fn start_post_copy(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<(), Failure> {
    known_flags(flags, 0, "virDomainMigrateStartPostCopy")?;
    running(&client, &domain).await?;
    let text = "post-copy can only be started while outgoing migration is in progress";
    Err(Failure::invalid_state(Area::Domain, text))
}
