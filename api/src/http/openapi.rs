//! The API's description (OpenAPI 3.1), made from the handlers, and the page to browse it.

use std::sync::LazyLock;

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};

use super::App;
use crate::types::PROBLEM_JSON;

const PAGE: &str = include_str!("../../../resources/web/docs.html");
const SCRIPT: &str = include_str!("../../../resources/web/docs.js");
const STYLE: &str = include_str!("../../../resources/web/docs.css");

/// Nothing from elsewhere, nothing inline, nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Manor",
        description = "Virtual machines of one Linux host, from libvirt domain XML.\n\n\
            A domain is named by its name, its UUID, or, while it runs, its id. XML goes in and \
            out as `application/xml`, everything else as JSON. Errors are `application/problem+json` \
            (RFC 9457): programs decide by `type`, people read `detail`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "Domains", description = "What is there, and what it does"),
        (name = "Definitions", description = "Store, replace, forget, rename"),
        (name = "Power", description = "On, off, and what lies between"),
        (name = "Devices", description = "Disks, interfaces, consoles"),
        (name = "Guest agent", description = "What the guest itself tells and does"),
        (name = "Tuning", description = "What a domain gets of the host"),
        (name = "Networks", description = "Virtual networks"),
        (name = "Pools", description = "Places for disk images"),
        (name = "Volumes", description = "Disk images in pools"),
        (name = "Moving in", description = "From another libvirt"),
        (name = "Jobs", description = "Long work, to watch and to abort"),
        (name = "Events", description = "What happens, as it happens"),
        (name = "Statistics", description = "Counters that never wait for a guest"),
        (name = "Access", description = "Who may do what, and who did"),
        (name = "Node", description = "The host"),
    ),
    components(schemas(
        crate::types::Problem,
        crate::types::Mistake,
        crate::types::Nvram,
        crate::types::ForgottenSnapshots,
        crate::types::SnapshotReach
    )),
)]
struct Head;

/// The document before any route is added.
pub(super) fn head() -> OpenApi {
    Head::openapi()
}

/// The finished document, as text.
pub(super) static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let (_, mut document) = super::routes().split_for_parts();
    for item in document.paths.paths.values_mut() {
        let PathItem { get, post, put, patch, delete, .. } = item;
        for operation in [get, post, put, patch, delete] {
            operation.as_mut().map(add_problem);
        }
    }
    let by_token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_default();
    components.security_schemes.insert("token".to_owned(), RefOr::T(by_token));
    // On the sockets of the host, and with a client certificate, nothing more is needed.
    let needs = [SecurityRequirement::default(), SecurityRequirement::new("token", [""; 0])];
    document.security = Some(needs.into());
    document.to_pretty_json().unwrap_or_default()
});

/// Every operation can fail, and all fail in the same shape.
fn add_problem(operation: &mut Operation) {
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new()
        .description("The operation failed")
        .content(PROBLEM_JSON, content)
        .build();
    operation.responses.responses.insert("default".to_owned(), RefOr::T(response));
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "Node",
    responses((status = 200, body = Object, content_type = "application/json")))]
pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

/// The page that shows it. Part of the binary: it works without any other server.
pub(super) fn pages() -> Router<App> {
    Router::new()
        .route("/", get(async || page("text/html; charset=utf-8", PAGE)))
        .route("/docs", get(async || page("text/html; charset=utf-8", PAGE)))
        .route("/docs/docs.js", get(async || page("text/javascript; charset=utf-8", SCRIPT)))
        .route("/docs/docs.css", get(async || page("text/css; charset=utf-8", STYLE)))
}

pub(super) fn page(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
