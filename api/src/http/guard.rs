//! Keeps foreign web pages out. A browser on this host can be made to send requests to a loopback
//! port by any page it shows; such a request carries the page's `Origin`, or (DNS rebinding) a
//! `Host` that is a name of the attacker's. Of two hosts another server would take the other one.

use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::{Failure, HttpCode};
use super::remote::Remote;

pub(super) async fn guard(request: Request, next: Next) -> Response {
    // By TLS a server has a name, which the client has seen proven.
    let any_name = request.extensions().get::<Remote>().is_some();
    match check(request.headers(), any_name) {
        Ok(()) => {
            let mut response = next.run(request).await;
            let headers = response.headers_mut();
            headers.insert(
                header::X_CONTENT_TYPE_OPTIONS,
                header::HeaderValue::from_static("nosniff"),
            );
            response
        }
        Err(failure) => failure.into_response(),
    }
}

fn check(headers: &HeaderMap, any_name: bool) -> Result<(), Failure> {
    if headers.get_all(header::HOST).iter().nth(1).is_some() {
        return Err(Failure::new(
            HttpCode::BadRequest,
            "a request has one Host, and this has more",
        ));
    }
    let host = text(headers, header::HOST);
    if let Some(host) = host
        && !any_name
        && !is_local_name(host)
    {
        return Err(foreign(format!("this service is not called {host:?}; use an IP address")));
    }
    if let Some(origin) = text(headers, header::ORIGIN) {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        if authority.is_none() || authority != host {
            return Err(foreign(format!("a page of {origin:?} may not call this service")));
        }
    }
    Ok(())
}

/// An IP address or `localhost`, with or without a port: what a name server cannot point elsewhere.
fn is_local_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.is_empty() || name == "localhost" || name.parse::<std::net::IpAddr>().is_ok()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    // A value that is not text equals no host and no address.
    headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"))
}

fn foreign(detail: String) -> Failure {
    Failure::new(HttpCode::ForeignOrigin, detail)
}
