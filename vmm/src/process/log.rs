//! The process's log: `tracing` events as JSON lines, at a bounded rate.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Lines per second that a guest can make us write, and how many may come at once.
const RATE: f64 = 20.0;
const BURST: f64 = 200.0;

struct JsonLines {
    level: Level,
    output: Mutex<Output>,
    spans: AtomicU64,
}

struct Output {
    file: Option<File>,
    budget: f64,
    refilled: Instant,
    dropped: u64,
}

/// Send `tracing` events to `file`, or to stderr.
pub(super) fn install(file: Option<File>) {
    let output = Output { file, budget: BURST, refilled: Instant::now(), dropped: 0 };
    let lines = JsonLines { level: level(), output: Mutex::new(output), spans: AtomicU64::new(1) };
    // Fails when there is a subscriber already, as in tests that run in process.
    let _ = tracing::subscriber::set_global_default(lines);
}

/// `RUST_LOG=debug` in the environment asks for more, such as what firmware has to say.
fn level() -> Level {
    match std::env::var_os("RUST_LOG").is_some_and(|value| value == "debug") {
        true => Level::DEBUG,
        false => Level::INFO,
    }
}

impl Subscriber for JsonLines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.level.into())
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(dropped) = output.admit() else { return };
        let mut line = Line(Map::new());
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        line.0.insert("time".into(), since.as_secs_f64().into());
        line.0.insert("level".into(), event.metadata().level().as_str().into());
        line.0.insert("target".into(), event.metadata().target().into());
        if dropped > 0 {
            line.0.insert("dropped_before".into(), dropped.into());
        }
        event.record(&mut line);
        let mut text = Value::Object(line.0).to_string();
        text.push('\n');
        output.write(text.as_bytes());
    }
}

impl Output {
    /// Whether one more line may be written, and how many were not since the last.
    fn admit(&mut self) -> Option<u64> {
        let now = Instant::now();
        let earned = now.duration_since(self.refilled).as_secs_f64() * RATE;
        self.refilled = now;
        self.budget = (self.budget + earned).min(BURST);
        if self.budget < 1.0 {
            self.dropped += 1;
            return None;
        }
        self.budget -= 1.0;
        Some(std::mem::take(&mut self.dropped))
    }

    /// One write call per line, so that lines of several writers don't mix. A log that cannot be
    /// written (full disk, closed pipe) must not disturb the guest.
    fn write(&mut self, line: &[u8]) {
        let _ = match &mut self.file {
            Some(file) => file.write(line),
            None => io::stderr().write(line),
        };
    }
}

struct Line(Map<String, Value>);

impl Line {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        self.put(field, crate::process::chain(error));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.put(field, text);
    }
}
