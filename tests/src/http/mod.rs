//! A blocking client of Manor's HTTP API, for tests and the demo: what a foreign program would
//! write, so it shares nothing with Manor's own client.

mod socket;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

pub use socket::Console;

/// Longer than any request may take, the start of a guest on a busy emulated host included.
const LIMIT: Duration = Duration::from_secs(120);

/// A daemon that listens on this loopback port.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    port: u16,
}

#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    /// The body if the request went well, else an error that shows the daemon's own.
    pub fn success(self) -> anyhow::Result<Reply> {
        if !(200..300).contains(&self.status) {
            bail!("HTTP {}: {}", self.status, self.body.trim_end());
        }
        Ok(self)
    }

    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {}", self.body))
    }
}

impl Api {
    pub fn on(port: u16) -> Api {
        Api { port }
    }

    pub fn get(&self, path: &str) -> anyhow::Result<Reply> {
        self.request("GET", path, None)
    }

    pub fn post(&self, path: &str) -> anyhow::Result<Reply> {
        self.request("POST", path, None)
    }

    pub fn delete(&self, path: &str) -> anyhow::Result<Reply> {
        self.request("DELETE", path, None)
    }

    pub fn post_xml(&self, path: &str, xml: &str) -> anyhow::Result<Reply> {
        self.request("POST", path, Some(("application/xml", xml)))
    }

    pub fn put_json(&self, path: &str, json: &Value) -> anyhow::Result<Reply> {
        self.request("PUT", path, Some(("application/json", &json.to_string())))
    }

    /// One request on a connection of its own.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &str)>,
    ) -> anyhow::Result<Reply> {
        let doing = || format!("{method} {path}");
        let (kind, body) = body.unwrap_or_default();
        let mut headers = format!("Connection: close\r\nContent-Length: {}\r\n", body.len());
        if !kind.is_empty() {
            headers.push_str(&format!("Content-Type: {kind}\r\n"));
        }
        let mut answer = self.send(method, path, &headers, body).with_context(doing)?;
        let body = answer.body().with_context(doing)?;
        Ok(Reply { status: answer.status, body })
    }

    /// Whether the daemon answers, tried until `limit` has passed.
    pub fn await_ready(&self, limit: Duration) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        loop {
            match self.get("/v1/node").and_then(Reply::success) {
                Ok(_) => return Ok(begun.elapsed()),
                Err(error) if begun.elapsed() >= limit => {
                    return Err(error.context("the daemon does not answer"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Waits until the domain is in this state (`running`, `shut-off`, …).
    pub fn await_state(&self, domain: &str, state: &str, limit: Duration) -> anyhow::Result<Value> {
        let until = Instant::now() + limit;
        loop {
            let now = self.state(domain)?;
            if now["state"] == state {
                return Ok(now);
            }
            if Instant::now() >= until {
                bail!("{domain} is still not {state} after {limit:?}: {now}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn state(&self, domain: &str) -> anyhow::Result<Value> {
        self.get(&format!("/v1/domains/{domain}/state"))?.success()?.json()
    }

    /// Follows events, those after the one of this number first.
    pub fn events(&self, after: Option<u64>) -> anyhow::Result<Events> {
        let after = after.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let headers = format!("Accept: text/event-stream\r\n{after}");
        let answer = self.send("GET", "/v1/events", &headers, "")?;
        if answer.status != 200 {
            bail!("events: HTTP {}", answer.status);
        }
        Ok(Events { answer, text: String::new() })
    }

    /// Attaches to a domain's first console; it begins with the recent output.
    pub fn console(&self, domain: &str) -> anyhow::Result<Console> {
        Console::attach(*self, &format!("/v1/domains/{domain}/console"))
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> anyhow::Result<Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        let host = format!("Host: 127.0.0.1:{}\r\n", self.port);
        write!(stream, "{method} {path} HTTP/1.1\r\n{host}{headers}\r\n{body}")?;
        Answer::read(BufReader::new(stream))
    }
}

/// An answer whose head has been read.
struct Answer {
    status: u16,
    length: Option<usize>,
    chunked: bool,
    stream: BufReader<TcpStream>,
}

impl Answer {
    fn read(mut stream: BufReader<TcpStream>) -> anyhow::Result<Answer> {
        let first = line(&mut stream)?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("not an HTTP answer: {first:?}"))?;
        let (mut length, mut chunked) = (None, false);
        loop {
            let header = line(&mut stream)?;
            let Some((name, value)) = header.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse()?);
            }
            chunked |= name.eq_ignore_ascii_case("transfer-encoding")
                && value.trim().eq_ignore_ascii_case("chunked");
        }
        Ok(Answer { status, length, chunked, stream })
    }

    fn body(&mut self) -> anyhow::Result<String> {
        let mut bytes = Vec::new();
        match self.length {
            Some(length) => {
                bytes.resize(length, 0);
                self.stream.read_exact(&mut bytes).context("the answer is cut short")?;
            }
            None if self.chunked => while self.chunk(&mut bytes)? {},
            None => _ = self.stream.read_to_end(&mut bytes)?,
        }
        Ok(String::from_utf8(bytes)?)
    }

    /// Whether there are more.
    fn chunk(&mut self, to: &mut Vec<u8>) -> anyhow::Result<bool> {
        let size = line(&mut self.stream)?;
        let size = usize::from_str_radix(&size, 16).with_context(|| format!("chunk {size:?}"))?;
        let at = to.len();
        to.resize(at + size, 0);
        self.stream.read_exact(&mut to[at..])?;
        line(&mut self.stream)?;
        Ok(size > 0)
    }
}

fn line(from: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        bail!("the connection was closed without an answer");
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Server-sent events as their JSON.
pub struct Events {
    answer: Answer,
    text: String,
}

impl Events {
    /// The next event that `wanted` accepts; the others are passed over.
    pub fn expect(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let until = Instant::now() + limit;
        let mut seen = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = self.next(left).with_context(|| format!("events so far: {seen:#?}"))?;
            if wanted(&event) {
                return Ok(event);
            }
            seen.push(event.to_string());
        }
    }

    fn next(&mut self, limit: Duration) -> anyhow::Result<Value> {
        let until = Instant::now() + limit;
        loop {
            if let Some(at) = self.text.find("\n\n") {
                let frame: String = self.text.drain(..at + 2).collect();
                let data: String =
                    frame.lines().filter_map(|line| line.strip_prefix("data:")).collect();
                if !data.is_empty() {
                    return Ok(serde_json::from_str(&data)?);
                }
                continue; // a comment that keeps the connection alive
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("time is up");
            }
            self.answer.stream.get_ref().set_read_timeout(Some(left))?;
            let mut bytes = Vec::new();
            if !self.answer.chunk(&mut bytes)? {
                bail!("the daemon ended the stream");
            }
            self.text.push_str(&String::from_utf8(bytes)?);
        }
    }
}
