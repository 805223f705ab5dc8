//! Who makes a request that comes over TLS. On every other connection that is settled when it is
//! accepted.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use management::{Caller, Code, Error, Via};

use super::{Certificate, Remote};
use crate::http::App;
use crate::http::error::{Failure, HttpCode};

pub(in crate::http) async fn authenticate(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(remote) = request.extensions().get::<Remote>().cloned() else {
        return next.run(request).await;
    };
    match caller(&app, &remote, request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

/// A token goes before a certificate: it is what the program itself chose to send.
async fn caller(app: &App, remote: &Remote, headers: &HeaderMap) -> Result<Caller, Failure> {
    let ip = remote.address.ip().to_canonical();
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(bearer).ok_or_else(|| {
            unauthenticated("the Authorization is of another kind; send Bearer and a token")
        })?;
        if let Some(bearer) = app.manager.bearer(token, &ip.to_string()) {
            remote.leash.hold(bearer.token, &app.manager);
            return Ok(bearer.caller);
        }
        if !remote.peers.failed(remote.address.ip(), Instant::now()) {
            let text = format!("too many wrong tokens from {ip}; try again in a minute");
            return Err(Failure::new(HttpCode::TooManyFailures, text));
        }
        app.manager.turned_away(&ip.to_string()).await;
        return Err(unauthenticated(
            "this token lets nobody in: it is wrong, expired or revoked (see 'manor token list')",
        ));
    }
    match &remote.certificate {
        Certificate::Known(client) => {
            let name = format!("{} ({ip})", client.common_name);
            let caller = Caller::new(name, client.role.access()).via(Via::Certificate);
            Ok(caller.scoped(client.scope.clone()))
        }
        Certificate::Unknown { common_name } => {
            let text = format!(
                "the certificate of {common_name:?} has no role here; give it one in the daemon's \
                 configuration ([[listen.client]])"
            );
            Err(Error::new(Code::Denied, text).into())
        }
        Certificate::None => Err(unauthenticated(
            "say who you are: send a token (Authorization: Bearer), or show a client certificate",
        )),
    }
}

/// RFC 9110, section 11.1: the scheme's case means nothing.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthenticated(detail: &str) -> Failure {
    Failure::new(HttpCode::Unauthenticated, detail)
}
