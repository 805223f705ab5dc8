//! What handlers take from a request: bounded, timed, checked, and refused as problem+json.

use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use management::domain::DomainRef;
use management::{Access, Caller};
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Deserializer};
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::{IntoParams, PartialSchema as _};

use super::error::{Failure, HttpCode};
use crate::types;

/// A definition larger than this is not one.
pub const MAX_XML: usize = 1 << 20;
/// Of a definition with the documents that come with it, escaped.
pub(super) const MAX_DEFINITION: usize = 8 << 20;
/// Of the definitions of a host, some thousands of them.
pub(super) const MAX_IMPORT: usize = 64 << 20;
/// The other JSON bodies of this API hold a name or a switch.
pub const MAX_JSON: usize = 64 << 10;
/// For a whole body: a client that sends a byte a second does not hold a connection for long.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// Who calls, as the connection proved it.
#[derive(Debug, Clone)]
pub(super) struct Who(pub Caller);

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts.extensions.get::<Caller>().cloned().map(Who).ok_or_else(|| {
            management::Error::new(management::Code::Denied, "the connection proves no caller")
                .into()
        })
    }
}

/// The domain in the path: a name, a UUID, or the id of a running domain.
#[derive(Debug, Clone)]
pub(super) struct Domain(pub DomainRef);

impl IntoParams for Domain {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let domain = ParameterBuilder::new()
            .name("domain")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("Name, UUID, or id of a running domain"))
            .schema(Some(String::schema()));
        vec![domain.build()]
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Domain {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| Failure::new(HttpCode::BadRequest, error.body_text()))?;
        Ok(Self(DomainRef::Any(name)))
    }
}

/// A domain and a snapshot of it in the path.
pub(super) struct DomainSnapshot(pub DomainRef, pub String);

impl IntoParams for DomainSnapshot {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let snapshot = ParameterBuilder::new()
            .name("snapshot")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("Name of the snapshot"))
            .schema(Some(String::schema()));
        Domain::into_params(place).into_iter().chain([snapshot.build()]).collect()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for DomainSnapshot {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path((domain, snapshot)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|error| Failure::new(HttpCode::BadRequest, error.body_text()))?;
        Ok(Self(DomainRef::Any(domain), snapshot))
    }
}

/// A domain and an interface of it in the path: its MAC address, or the name of its tap.
#[derive(Debug, Clone)]
pub(super) struct DomainInterface(pub DomainRef, pub String);

impl IntoParams for DomainInterface {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let interface = ParameterBuilder::new()
            .name("interface")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("MAC address, or name of the tap on the host"))
            .schema(Some(String::schema()));
        let mut parameters = Domain::into_params(place);
        parameters.push(interface.build());
        parameters
    }
}

impl<S: Send + Sync> FromRequestParts<S> for DomainInterface {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path((domain, interface)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|error| Failure::new(HttpCode::BadRequest, error.body_text()))?;
        Ok(Self(DomainRef::Any(domain), interface))
    }
}

/// What stands in the path.
#[derive(Debug, Clone)]
pub(super) struct PathParams<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(params) = Path::from_request_parts(parts, state)
            .await
            .map_err(|error| Failure::new(HttpCode::BadRequest, error.body_text()))?;
        Ok(Self(params))
    }
}

/// A domain and a disk of it in the path: its target, or its image.
#[derive(Debug, Clone)]
pub(super) struct DomainDisk(pub DomainRef, pub String);

impl IntoParams for DomainDisk {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let disk = ParameterBuilder::new()
            .name("disk")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("Target (`sda`), or the path of the image"))
            .schema(Some(String::schema()));
        let mut parameters = Domain::into_params(place);
        parameters.push(disk.build());
        parameters
    }
}

impl<S: Send + Sync> FromRequestParts<S> for DomainDisk {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let DomainInterface(domain, disk) =
            DomainInterface::from_request_parts(parts, state).await?;
        Ok(Self(domain, disk))
    }
}

/// A domain and a device of it in the path: its alias, target or MAC address.
#[derive(Debug, Clone)]
pub(super) struct DomainDevice(pub DomainRef, pub String);

impl IntoParams for DomainDevice {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let device = ParameterBuilder::new()
            .name("device")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("Target (`vdb`), MAC address, or alias (`virtio-disk1`)"))
            .schema(Some(String::schema()));
        let mut parameters = Domain::into_params(place);
        parameters.push(device.build());
        parameters
    }
}

impl<S: Send + Sync> FromRequestParts<S> for DomainDevice {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let DomainInterface(domain, device) =
            DomainInterface::from_request_parts(parts, state).await?;
        Ok(Self(domain, device))
    }
}

/// The query string.
#[derive(Debug, Clone)]
pub(super) struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(params) = Query::from_request_parts(parts, state)
            .await
            .map_err(|error| Failure::new(HttpCode::BadRequest, error.body_text()))?;
        Ok(Self(params))
    }
}

/// An XML document.
#[derive(Debug, Clone)]
pub(super) struct Xml(pub String);

impl<S: Send + Sync> FromRequest<S> for Xml {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        expect_type(request.headers(), &["application/xml", "text/xml"])?;
        let limit = most_of(&request, MAX_XML);
        let bytes = read_body(request.into_body(), limit).await?;
        String::from_utf8(bytes)
            .map(Self)
            .map_err(|_| Failure::new(HttpCode::BadRequest, "the document is not UTF-8"))
    }
}

/// XML of a domain alone, or in JSON with what comes with it.
#[derive(Debug, Clone)]
pub(super) struct DefinitionBody(pub types::Definition);

impl<S: Send + Sync> FromRequest<S> for DefinitionBody {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        if expect_type(request.headers(), &["application/json"]).is_err() {
            let Xml(xml) = Xml::from_request(request, state).await?;
            return Ok(Self(types::Definition { xml, cloud_init: None }));
        }
        let limit = most_of(&request, MAX_DEFINITION);
        let bytes = read_body(request.into_body(), limit).await?;
        let definition: types::Definition = from_json(&bytes)?;
        if definition.xml.len() > MAX_XML {
            let text = format!("the XML is larger than {MAX_XML} bytes");
            return Err(Failure::new(HttpCode::TooLarge, text));
        }
        Ok(Self(definition))
    }
}

/// Definitions of a whole host.
#[derive(Debug, Clone)]
pub(super) struct ImportBody(pub types::Import);

impl<S: Send + Sync> FromRequest<S> for ImportBody {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        expect_type(request.headers(), &["application/json"])?;
        let bytes = read_body(request.into_body(), MAX_IMPORT).await?;
        let import: types::Import = from_json(&bytes)?;
        if let Some(large) = import.documents.iter().find(|it| it.xml.len() > MAX_XML) {
            let text = format!("{}: the XML is larger than {MAX_XML} bytes", large.file);
            return Err(Failure::new(HttpCode::TooLarge, text));
        }
        Ok(Self(import))
    }
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    // serde takes a list for an object without names.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        let text = "the JSON body: an object is wanted, and this is a list";
        return Err(Failure::new(HttpCode::BadRequest, text));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::new(HttpCode::BadRequest, format!("the JSON body: {error}")))
}

/// A JSON document. serde_json refuses nesting beyond 128, duplicate members and numbers that
/// do not fit.
#[derive(Debug, Clone)]
pub(super) struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        expect_type(request.headers(), &["application/json"])?;
        let bytes = read_body(request.into_body(), MAX_JSON).await?;
        from_json(&bytes).map(Self)
    }
}

fn expect_type(headers: &HeaderMap, wanted: &[&str]) -> Result<(), Failure> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.and_then(|value| value.split(';').next()).map(str::trim);
    if essence.is_some_and(|essence| wanted.iter().any(|w| w.eq_ignore_ascii_case(essence))) {
        return Ok(());
    }
    let detail = match given {
        Some(given) => format!("the body is {given:?}, and {} is wanted", wanted[0]),
        None => format!("send a Content-Type: {}", wanted[0]),
    };
    Err(Failure::new(HttpCode::UnsupportedMediaType, detail))
}

/// Who may only look, which anybody may, has nothing long to say.
fn most_of(request: &Request, limit: usize) -> usize {
    match request.extensions().get::<Caller>() {
        Some(caller) if caller.access > Access::Read => limit,
        _ => limit.min(MAX_JSON),
    }
}

pub(super) async fn read_body(body: Body, limit: usize) -> Result<Vec<u8>, Failure> {
    let too_large =
        || Failure::new(HttpCode::TooLarge, format!("the body is larger than {limit} bytes"));
    // What announces itself as too long is not waited for.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_large()),
        Ok(Err(error)) => {
            Err(Failure::new(HttpCode::BadRequest, format!("the body broke off: {error}")))
        }
        Err(_) => Err(Failure::new(
            HttpCode::SlowRequest,
            format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs()),
        )),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if cause.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        next = cause.source();
    }
    false
}

/// `?start=true`, and also a bare `?start`.
pub(super) fn switch<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    match String::deserialize(from)?.as_str() {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(serde::de::Error::custom(format!("{other:?} is neither true nor false"))),
    }
}
