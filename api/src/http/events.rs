//! `/v1/events`: server-sent events, with replay of what a client missed.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use management::domain::DomainRef;
use management::events::Event;
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::{Failure, HttpCode};
use super::extract::{Params, Who};
use crate::types;

/// Proxies give up on connections that are silent for a minute; a dead peer is found as soon.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Begin after the event of this id; the header `Last-Event-ID` goes before it.
    after: Option<u64>,
    /// Only of this domain.
    domain: Option<String>,
}

/// Follow events as they happen.
///
/// A stream of server-sent events. A client that was away sends the id of the
/// last event it saw as `Last-Event-ID`, as browsers do, and gets what it missed first; an event
/// `lost` says that some are no longer there.
#[utoipa::path(get, path = "/v1/events", tag = "Events",
    params(EventsQuery,
        ("last-event-id" = Option<u64>, Header, description = "Begin after the event of this id")),
    responses((status = 200, body = types::Event, content_type = "text/event-stream")))]
pub(super) async fn events(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<EventsQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Frame, Infallible>>>, Failure> {
    let after = last_event_id(&headers)?.or(query.after);
    let domain = query.domain.map(DomainRef::Any);
    let subscription = app.manager.call(&caller, ops::Subscribe { after, domain }).await?;
    let stream = stream::unfold(subscription, |mut subscription| async move {
        let event = subscription.next().await?;
        Some((Ok(frame(event)), subscription))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    id.map(Some).ok_or_else(|| {
        Failure::new(HttpCode::BadRequest, "Last-Event-ID is a number that an event carried")
    })
}

fn frame(event: Event) -> Frame {
    let event = types::Event::from(event);
    let data = serde_json::to_string(&event).unwrap_or_default();
    Frame::default().id(event.id.to_string()).event(&event.event).data(data)
}
