//! The log of the daemon and its broker: lines on stderr, for people, the journal or programs.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

pub(crate) type Level = reload::Handle<EnvFilter, tracing_subscriber::Registry>;

/// `RUST_LOG` goes before the configuration: it is closer at hand when one looks for a fault.
pub(crate) fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(level))
        .unwrap_or_else(|_| EnvFilter::new("info"))
}

/// `format`: `json`, or anything else for text.
pub(crate) fn start(level: &str, format: &str) -> Level {
    let (filter, handle) = reload::Layer::new(filter(level));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // The journal stamps lines itself.
    let in_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let registry = tracing_subscriber::registry().with(filter);
    match (format, in_journal) {
        ("json", _) => registry.with(layer.json()).init(),
        (_, true) => registry.with(layer.with_ansi(false).without_time()).init(),
        (_, false) => {
            use std::io::IsTerminal as _;
            registry.with(layer.with_ansi(std::io::stderr().is_terminal())).init();
        }
    }
    handle
}
