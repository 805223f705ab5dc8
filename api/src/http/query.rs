//! Questions about domains.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use management::ops;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::definition::etag;
use super::error::{Failure, HttpCode};
use super::extract::{Domain, Params, Who, switch};
use crate::types::{self, StateName};

/// Which of a domain's definitions is meant.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The stored definition, also while the domain runs.
    #[serde(deserialize_with = "switch")]
    inactive: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct XmlQuery {
    /// The stored definition, also while the domain runs.
    #[serde(deserialize_with = "switch")]
    inactive: bool,
    /// With passwords; needs write access.
    #[serde(deserialize_with = "switch")]
    secure: bool,
}

/// List domains with their states and figures.
///
/// One reply holds all that a table of domains shows: no second request for each of them.
#[utoipa::path(get, path = "/v1/domains", tag = "Domains", params(types::ListQuery),
    responses((status = 200, body = types::DomainList)))]
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<types::ListQuery>,
) -> Result<Json<types::DomainList>, Failure> {
    let filter = filter(&query)?;
    let mut found = app.manager.call(&caller, ops::ListDomains { filter, cpu_times: true }).await?;
    // A page is cut by name: an order that starting and stopping do not change.
    found.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(after) = &query.cursor {
        found.retain(|domain| domain.name > *after);
    }
    let mut next_cursor = None;
    if let Some(limit) = query.limit {
        if !(1..=1000).contains(&limit) {
            return Err(Failure::new(HttpCode::BadRequest, "limit lies between 1 and 1000"));
        }
        let limit = limit as usize;
        if found.len() > limit {
            found.truncate(limit);
            next_cursor = found.last().map(|domain| domain.name.clone());
        }
    }
    let domains = found.into_iter().map(|it| Arc::unwrap_or_clone(it).into()).collect();
    Ok(Json(types::DomainList { domains, next_cursor }))
}

fn filter(query: &types::ListQuery) -> Result<ops::DomainFilter, Failure> {
    let yes = |choice: Option<bool>| choice == Some(true);
    let no = |choice: Option<bool>| choice == Some(false);
    let mut states = Vec::new();
    for word in query.state.iter().flat_map(|list| list.split(',')).filter(|w| !w.is_empty()) {
        states.push(state_words(word)?.to_owned());
    }
    Ok(ops::DomainFilter {
        active: yes(query.active),
        inactive: no(query.active),
        persistent: yes(query.persistent),
        transient: no(query.persistent),
        autostart: yes(query.autostart),
        no_autostart: no(query.autostart),
        states,
    })
}

fn state_words(word: &str) -> Result<&'static str, Failure> {
    StateName::ALL
        .iter()
        .map(|state| state.words())
        .find(|words| words.replace(' ', "-") == word || *words == word)
        .ok_or_else(|| {
            let known: Vec<_> =
                StateName::ALL.iter().map(|s| s.words().replace(' ', "-")).collect();
            let detail = format!("there is no state {word:?}; states are {}", known.join(", "));
            Failure::new(HttpCode::BadRequest, detail)
        })
}

/// Everything about one domain.
#[utoipa::path(get, path = "/v1/domains/{domain}", tag = "Domains",
    params(Domain),
    responses((status = 200, body = types::Domain,
        headers(("etag" = String, description = "Of the stored definition; `If-Match` takes it")))))]
pub(super) async fn describe(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Response, Failure> {
    let domain = app.manager.call(&caller, ops::DescribeDomain { domain }).await?;
    Ok((etag(&domain), Json(types::Domain::from(domain))).into_response())
}

/// The definition as libvirt XML: what runs, or what is stored.
#[utoipa::path(get, path = "/v1/domains/{domain}/xml", tag = "Domains",
    params(Domain, XmlQuery),
    responses((status = 200, body = String, content_type = "application/xml")))]
pub(super) async fn xml(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(XmlQuery { inactive, secure }): Params<XmlQuery>,
) -> Result<Response, Failure> {
    let xml = if secure {
        app.manager
            .call(&caller, ops::DumpSecureXml { domain, inactive, migratable: false })
            .await?
    } else {
        app.manager.call(&caller, ops::DumpXml { domain, inactive }).await?
    };
    Ok(as_xml(xml))
}

pub(super) fn as_xml(xml: String) -> Response {
    ([(header::CONTENT_TYPE, types::XML)], xml).into_response()
}

/// State with its reason.
#[utoipa::path(get, path = "/v1/domains/{domain}/state", tag = "Domains",
    params(Domain),
    responses((status = 200, body = types::DomainState)))]
pub(super) async fn state(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Json<types::DomainState>, Failure> {
    Ok(Json(app.manager.call(&caller, ops::GetDomainState { domain }).await?.into()))
}

/// Counters of one domain.
#[utoipa::path(get, path = "/v1/domains/{domain}/stats", tag = "Statistics",
    params(Domain),
    responses((status = 200, body = types::DomainStats)))]
pub(super) async fn stats(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Json<types::DomainStats>, Failure> {
    Ok(Json(app.manager.call(&caller, ops::GetDomainStats { domain }).await?.into()))
}

/// Counters of all domains, in bounded time whatever the guests do.
#[utoipa::path(get, path = "/v1/stats", tag = "Statistics",
    responses((status = 200, body = types::StatsList)))]
pub(super) async fn all_stats(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Json<types::StatsList>, Failure> {
    let stats = app.manager.call(&caller, ops::GetAllStats).await?;
    Ok(Json(types::StatsList { domains: stats.into_iter().map(Into::into).collect() }))
}

/// Disks, as the definition has them.
#[utoipa::path(get, path = "/v1/domains/{domain}/disks", tag = "Devices",
    params(Domain, Which),
    responses((status = 200, body = [types::Disk])))]
pub(super) async fn disks(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(Which { inactive }): Params<Which>,
) -> Result<Json<Vec<types::Disk>>, Failure> {
    let rows = app.manager.call(&caller, ops::ListDisks { domain, inactive }).await?;
    Ok(Json(rows.into_iter().map(Into::into).collect()))
}

/// Network interfaces, as the definition has them.
#[utoipa::path(get, path = "/v1/domains/{domain}/interfaces", tag = "Devices",
    params(Domain, Which),
    responses((status = 200, body = [types::Interface])))]
pub(super) async fn interfaces(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(Which { inactive }): Params<Which>,
) -> Result<Json<Vec<types::Interface>>, Failure> {
    let rows = app.manager.call(&caller, ops::ListInterfaces { domain, inactive }).await?;
    Ok(Json(rows.into_iter().map(Into::into).collect()))
}

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum AddressSource {
    /// DHCP of the networks that the domain is in.
    #[default]
    Lease,
    /// The guest's agent.
    Agent,
    /// Whom this host has exchanged packets with: IPv4.
    Arp,
}

/// What the process of a running domain may do, as the host's kernel says it.
#[utoipa::path(get, path = "/v1/domains/{domain}/security", tag = "Domains",
    params(Domain),
    responses((status = 200, body = [types::SecurityFact])))]
pub(super) async fn security(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Json<Vec<types::SecurityFact>>, Failure> {
    let facts = app.manager.call(&caller, ops::DomainSecurity { domain }).await?;
    let fact = |fact: management::domain::SecurityFact| types::SecurityFact {
        name: fact.name,
        value: fact.value,
        confined: fact.confined,
    };
    Ok(Json(facts.into_iter().map(fact).collect()))
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct AddressQuery {
    /// Who is asked. `agent` needs the right to control the domain, and names interfaces as the
    /// guest does.
    #[param(inline)]
    source: AddressSource,
}

/// Addresses that a running domain's interfaces have.
#[utoipa::path(get, path = "/v1/domains/{domain}/addresses", tag = "Devices",
    params(Domain, AddressQuery),
    responses((status = 200, body = [types::InterfaceAddress])))]
pub(super) async fn addresses(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(AddressQuery { source }): Params<AddressQuery>,
) -> Result<Json<Vec<types::InterfaceAddress>>, Failure> {
    let rows = match source {
        AddressSource::Lease => app.manager.call(&caller, ops::LeasedAddresses { domain }).await?,
        AddressSource::Agent => app.manager.call(&caller, ops::GuestAddresses { domain }).await?,
        AddressSource::Arp => app.manager.call(&caller, ops::NeighbourAddresses { domain }).await?,
    };
    let address = |row: management::domain::AddressRow| types::InterfaceAddress {
        interface: row.interface,
        mac: row.mac,
        address: row.address.to_string(),
        prefix: row.prefix,
    };
    Ok(Json(rows.into_iter().map(address).collect()))
}
