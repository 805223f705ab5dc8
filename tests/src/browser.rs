//! [`Browser`]: Debian's Chromium without a window, told what to do by its DevTools protocol.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::apt::Apt;
use crate::paths;
use crate::picture::Picture;
use crate::tree::Program;

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// The machine's libc, and what only its window needs.
const NOT_NEEDED: [&str; 3] = ["libc6", "x11-utils", "xdg-utils"];

/// A browser with one page. It ends with this value.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    calls: u64,
    session: String,
}

/// Chromium's headless half, fetched (110 MB) where the machine has none.
pub fn chromium() -> Result<Program> {
    for name in ["chromium-headless-shell", "chromium", "google-chrome"] {
        let installed = Program::installed(name);
        if runs(&installed) {
            return Ok(installed);
        }
    }
    let tree = paths::made_once("chromium", |tree| {
        Apt::open()?.unpack_closure_without(&["chromium-headless-shell"], &NOT_NEEDED, tree)
    })?;
    let program = "usr/lib/chromium/chromium-headless-shell";
    let pulse = ["usr/lib/x86_64-linux-gnu/pulseaudio"];
    let unpacked = Program::beside(&tree, program, &pulse);
    ensure!(runs(&unpacked), "the unpacked Chromium does not run");
    Ok(unpacked)
}

/// `--version` says so without starting it.
fn runs(program: &Program) -> bool {
    program.command().arg("--version").output().is_ok_and(|output| output.status.success())
}

impl Browser {
    /// A page of this address and size; the browser keeps what it must in `profile`.
    pub fn open(
        program: &Program,
        profile: &Path,
        url: &str,
        (width, height): (u32, u32),
    ) -> Result<Self> {
        // The protocol is spoken on descriptors 3 and 4.
        let mut words = vec!["-c".to_owned(), "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >&2".into()];
        words.extend_from_slice(program.words());
        let mut child = Program::installed("sh")
            .with(words)
            .command()
            .args(["--headless", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run"])
            // As root it has no sandbox, and what it is shown is ours.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the browser")?;
        let input = child.stdin.take().context("it has an input")?;
        let mut output = BufReader::new(child.stdout.take().context("it has an output")?);
        let (send, messages) = channel();
        // Ends with the browser.
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { break };
                if send.send(value).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let mut browser = Self { child, input, messages, calls: 0, session: String::new() };
        let target = json!({"url": url, "width": width, "height": height});
        let target = browser.call("Target.createTarget", &target)?;
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &target)?;
        let session = attached["sessionId"].as_str();
        browser.session = session.context("the browser names no session")?.to_owned();
        Ok(browser)
    }

    /// What an expression of JavaScript is in the page.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({"expression": expression, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", &asked)?;
        ensure!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        Ok(answer["result"]["value"].clone())
    }

    /// What a person sees.
    pub fn screenshot(&mut self) -> Result<Picture> {
        let answer = self.call("Page.captureScreenshot", &json!({"format": "png"}))?;
        let data = answer["data"].as_str().context("a screenshot without data")?;
        Picture::of_png(&STANDARD.decode(data)?)
    }

    /// Press a key and let it go.
    pub fn press(&mut self, code: &str, key: &str, number: u32) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "code": code, "key": key, "windowsVirtualKeyCode": number,
            });
            self.call("Input.dispatchKeyEvent", &event)?;
        }
        Ok(())
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let text = message.to_string() + "\0";
        self.input.write_all(text.as_bytes()).context("the browser does not listen")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.messages.recv_timeout(left);
            let mut answer = answer.with_context(|| format!("no answer to {method}"))?;
            // Others are events.
            if answer["id"] != self.calls {
                continue;
            }
            if !answer["error"].is_null() {
                bail!("{method}: {}", answer["error"]);
            }
            return Ok(answer["result"].take());
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its other processes end with it; if it does not, killing it is all there is.
        let _ = self.call("Browser.close", &json!({}));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
