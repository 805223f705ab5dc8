//! Refuses what is sent to an operation that takes no body: `{"paused": true}` for one that takes
//! that in its query would be lost without a word, and the guest run.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use super::error::{Failure, HttpCode};
use super::extract::{MAX_JSON, read_body};

/// Operations that take no body, with what their queries take.
#[derive(Debug, Clone, Default)]
pub(super) struct Bodiless(Arc<HashMap<(Method, String), Vec<String>>>);

impl Bodiless {
    pub(super) fn of(document: &OpenApi) -> Self {
        let mut found = HashMap::new();
        for (path, item) in &document.paths.paths {
            for (method, operation) in [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ] {
                if let Some(operation) = operation.as_ref().filter(|it| it.request_body.is_none()) {
                    found.insert((method, path.clone()), query(operation));
                }
            }
        }
        Self(Arc::new(found))
    }
}

fn query(operation: &Operation) -> Vec<String> {
    let parameters = operation.parameters.iter().flatten();
    let of_query = parameters.filter_map(|it| match it {
        RefOr::T(it) if it.parameter_in == ParameterIn::Query => Some(it.name.clone()),
        _ => None,
    });
    of_query.collect()
}

pub(super) async fn refuse(
    State(Bodiless(operations)): State<Bodiless>,
    request: Request,
    next: Next,
) -> Response {
    // Most have none, which their heads say.
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        return next.run(request).await;
    };
    let operation = (request.method().clone(), path.as_str().to_owned());
    let Some(query) = operations.get(&operation) else { return next.run(request).await };
    let (parts, body) = request.into_parts();
    match read_body(body, MAX_JSON).await {
        Ok(bytes) if says_nothing(&bytes) => {
            next.run(Request::from_parts(parts, Body::empty())).await
        }
        Ok(_) => refusal(&operation, query).into_response(),
        Err(failure) => failure.into_response(),
    }
}

/// What clients send that send a body always.
fn says_nothing(body: &[u8]) -> bool {
    matches!(body.trim_ascii(), b"" | b"{}" | b"null")
}

fn refusal((method, path): &(Method, String), query: &[String]) -> Failure {
    let instead = match query {
        [] => "send none".to_owned(),
        names => format!("what it can be told stands in the query: {}", names.join(", ")),
    };
    Failure::new(HttpCode::BadRequest, format!("{method} {path} takes no body; {instead}"))
}
