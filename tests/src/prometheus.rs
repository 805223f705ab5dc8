//! Prometheus and its promtool: what they say of our metrics is what counts.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::apt::Apt;
use crate::paths;
use crate::tree::Program;

const PATIENCE: Duration = Duration::from_secs(60);

/// Nothing but the programs and the C library that they are linked to.
fn program(name: &str) -> anyhow::Result<Program> {
    let packages = ["prometheus", "libc6"];
    let tree = paths::made_once("prometheus", |tree| Apt::open()?.unpack(&packages, tree))?;
    Ok(Program::in_tree(&tree, &format!("usr/bin/{name}")))
}

/// What `promtool check metrics` has to say of `text`; nothing: it is well.
pub fn check_metrics(text: &str) -> anyhow::Result<String> {
    let mut command = program("promtool")?.command();
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().context("starting promtool")?;
    let mut input = child.stdin.take().context("promtool's input")?;
    // It may end before it has read all, and says why.
    let _ = input.write_all(text.as_bytes());
    drop(input);
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    ensure!(output.status.success() || !said.is_empty(), "promtool: {}", output.status);
    Ok(said)
}

/// A server that scrapes, for as long as it lives.
pub struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    /// Scrape `/metrics` of this port on 127.0.0.1 each second, as each of `jobs`: a name, and what is
    /// asked for.
    pub fn start(dir: &Path, target: u16, jobs: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut config = "global: { scrape_interval: 1s }\nscrape_configs:\n".to_owned();
        for (name, parameters) in jobs {
            config += &format!(
                "- job_name: {name}\n  params: {parameters}\n  static_configs:\n  \
                 - targets: ['127.0.0.1:{target}']\n"
            );
        }
        let file = dir.join("prometheus.yml");
        std::fs::write(&file, config)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command: Command = program("prometheus")?.command();
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.args(["--log.level=warn"]).current_dir(dir).stdin(Stdio::null());
        Ok(Self { child: command.spawn().context("starting prometheus")?, port })
    }

    /// Wait until the answer to `query` is good enough, and return it: labels and value of each series.
    pub fn query(
        &mut self,
        query: &str,
        enough: impl Fn(&[serde_json::Value]) -> bool,
    ) -> anyhow::Result<Vec<serde_json::Value>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            ensure!(self.child.try_wait()?.is_none(), "prometheus ended");
            let found = self.ask(query).unwrap_or_default();
            if enough(&found) {
                return Ok(found);
            }
            ensure!(Instant::now() < deadline, "prometheus knows only {found:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn ask(&self, query: &str) -> anyhow::Result<Vec<serde_json::Value>> {
        use std::io::Read as _;
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port))?;
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let request =
            format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
        let body: serde_json::Value = serde_json::from_str(body)?;
        Ok(body["data"]["result"].as_array().cloned().unwrap_or_default())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
