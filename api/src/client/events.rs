//! Following events.

use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, header};

use super::{Client, ClientError, Payload, Result, percent};
use crate::types::Event;

/// An event is a few hundred bytes; something that never ends a line is not one.
const MAX_FRAME: usize = 1 << 20;

/// Events as they come. Dropping it ends the stream.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    body: Incoming,
    /// Received and not yet parsed.
    pending: BytesMut,
}

impl Client {
    /// Follow events, beginning after the one of id `after`.
    pub async fn events(&self, after: Option<u64>, domain: Option<&str>) -> Result<EventStream> {
        let domain = domain.map(|domain| format!("?domain={}", percent(domain)));
        let path = format!("/v1/events{}", domain.unwrap_or_default());
        self.in_time(async {
            let response = self
                .send(Method::GET, &path, Payload::Nothing, |request| {
                    let request = request.header(header::ACCEPT, "text/event-stream");
                    match after {
                        Some(id) => request.header("last-event-id", id),
                        None => request,
                    }
                })
                .await?;
            if !response.status().is_success() {
                return Err(self.refusal(response).await);
            }
            Ok(EventStream {
                client: self.clone(),
                body: response.into_body(),
                pending: BytesMut::new(),
            })
        })
        .await
    }
}

impl EventStream {
    /// The next event; none when the daemon stops.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.parse()? {
                return Ok(Some(event));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.client.broken(error)),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.pending.extend_from_slice(&bytes);
                    }
                }
            }
        }
    }

    /// Take one block of lines off `pending`; comments (keep-alives) hold no data.
    fn parse(&mut self) -> Result<Option<Event>> {
        loop {
            let Some(end) = self.pending.windows(2).position(|pair| pair == b"\n\n") else {
                return if self.pending.len() > MAX_FRAME {
                    Err(self.foreign("an event has no end"))
                } else {
                    Ok(None)
                };
            };
            let block = self.pending.split_to(end + 2);
            let text = String::from_utf8_lossy(&block);
            let data: String =
                text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect();
            if !data.is_empty() {
                return serde_json::from_str(&data)
                    .map(Some)
                    .map_err(|error| self.foreign(&error.to_string()));
            }
        }
    }

    fn foreign(&self, what: &str) -> ClientError {
        self.client.foreign(what)
    }
}
