//! Errors at the edge: [`management::Error`] and the mistakes of a request, as problem+json.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use management::Code;

use crate::types::{Mistake, PROBLEM_JSON, Problem};

/// What a handler answers when it cannot answer: [`Problem`] with its status.
#[derive(Debug)]
pub struct Failure(pub Box<Problem>);

/// Kinds of failure that belong to HTTP itself; management knows nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpCode {
    NoSuchRoute,
    MethodNotAllowed,
    BadRequest,
    UnsupportedMediaType,
    TooLarge,
    SlowRequest,
    ForeignOrigin,
    UpgradeRequired,
    /// Nobody knows who it is.
    Unauthenticated,
    TooManyFailures,
    TooManyConnections,
}

impl HttpCode {
    pub const ALL: &'static [Self] = &[
        Self::NoSuchRoute,
        Self::MethodNotAllowed,
        Self::BadRequest,
        Self::UnsupportedMediaType,
        Self::TooLarge,
        Self::SlowRequest,
        Self::ForeignOrigin,
        Self::UpgradeRequired,
        Self::Unauthenticated,
        Self::TooManyFailures,
        Self::TooManyConnections,
    ];

    fn facts(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::NoSuchRoute => ("no-such-route", "No such route", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => {
                ("method-not-allowed", "Method not allowed", StatusCode::METHOD_NOT_ALLOWED)
            }
            Self::BadRequest => ("bad-request", "Bad request", StatusCode::BAD_REQUEST),
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                "Unsupported media type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ),
            Self::TooLarge => ("too-large", "Too large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::SlowRequest => ("slow-request", "Request too slow", StatusCode::REQUEST_TIMEOUT),
            Self::ForeignOrigin => ("foreign-origin", "Foreign origin", StatusCode::FORBIDDEN),
            Self::UpgradeRequired => {
                ("upgrade-required", "WebSocket required", StatusCode::UPGRADE_REQUIRED)
            }
            Self::Unauthenticated => ("unauthenticated", "Who are you?", StatusCode::UNAUTHORIZED),
            Self::TooManyFailures => {
                ("too-many-failures", "Too many failures", StatusCode::TOO_MANY_REQUESTS)
            }
            Self::TooManyConnections => {
                ("too-many-connections", "Too many connections", StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().0
    }
}

impl Failure {
    pub fn new(code: HttpCode, detail: impl Into<String>) -> Self {
        let (name, title, status) = code.facts();
        Self(Box::new(problem(name, title, status, detail.into())))
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

fn problem(code: &str, title: &str, status: StatusCode, detail: String) -> Problem {
    Problem {
        kind: format!("{}{code}", crate::types::TYPE_PREFIX),
        title: title.to_owned(),
        status: status.as_u16(),
        detail,
        causes: Vec::new(),
        errors: Vec::new(),
    }
}

/// The status that says the most about a code to a program that knows only HTTP.
fn status(error: &management::Error) -> StatusCode {
    match error.code {
        Code::NotFound | Code::DeviceNotFound => StatusCode::NOT_FOUND,
        Code::Exists | Code::InvalidState | Code::Risky | Code::Busy | Code::Locked => {
            StatusCode::CONFLICT
        }
        // Not XML at all is a bad request; XML that says something wrong cannot be processed.
        Code::InvalidXml if error.problems.iter().any(|p| p.kind == "malformed") => {
            StatusCode::BAD_REQUEST
        }
        Code::InvalidXml | Code::Unsupported | Code::ResourceMissing => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Code::Changed => StatusCode::PRECONDITION_FAILED,
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::Denied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted | Code::VmmUnreachable => StatusCode::SERVICE_UNAVAILABLE,
        Code::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Code::HostFailure | Code::VmmFailed | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<management::Error> for Failure {
    fn from(error: management::Error) -> Self {
        let mut problem =
            problem(error.code.name(), error.code.title(), status(&error), error.message.clone());
        let mut next = std::error::Error::source(&error);
        while let Some(cause) = next {
            problem.causes.push(cause.to_string());
            next = cause.source();
        }
        problem.errors = error.problems.into_iter().map(Mistake::from).collect();
        Self(Box::new(problem))
    }
}

impl From<management::Problem> for Mistake {
    fn from(found: management::Problem) -> Self {
        Self {
            warning: found.warning,
            kind: found.kind.to_owned(),
            line: (found.line > 0).then_some(found.line),
            column: (found.line > 0).then_some(found.column),
            path: found.path,
            message: found.message,
            expected: found.expected,
            suggestion: found.suggestion,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(self.0.status, 408 | 413) {
            // The rest of the body is not read; the connection cannot be used again.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let said = match self.status() {
            StatusCode::UPGRADE_REQUIRED => Some((header::UPGRADE, "websocket")),
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer realm=\"manor\"")),
            StatusCode::TOO_MANY_REQUESTS => Some((header::RETRY_AFTER, "60")),
            _ => None,
        };
        headers.extend(said.map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    }
}
