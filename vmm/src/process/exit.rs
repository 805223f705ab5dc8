//! [`ExitFile`]: the record of how the domain ended, for whoever was not there.

use std::fs::File;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use vmm_protocol::exit::{ExitReason, ExitRecord};

pub(super) struct ExitFile {
    file: File,
}

impl ExitFile {
    pub(super) fn new(file: File) -> Self {
        Self { file }
    }

    /// One JSON object and a newline, in one write.
    pub(super) fn write(&mut self, reason: &ExitReason, last_event: u64) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let record = ExitRecord { reason: reason.clone(), time: since.as_secs(), last_event };
        let written =
            serde_json::to_vec(&record).map_err(std::io::Error::other).and_then(|mut text| {
                text.push(b'\n');
                self.file.write_all(&text)
            });
        if let Err(error) = written {
            // The exit status still says the main thing.
            tracing::error!(%error, "the exit record could not be written");
        }
    }
}
