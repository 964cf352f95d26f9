//! A headless Chromium that a test drives: it opens pages, and runs scripts in them.
//!
//! Spoken is the `DevTools` protocol over two pipes, `--remote-debugging-pipe`: JSON, each message behind it a zero byte
//! (<https://chromedevtools.github.io/devtools-protocol/>).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PATIENCE, eventually};

/// What a system may call it.
const PROGRAMS: [&str; 5] =
    ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome"];

pub struct Browser {
    child: Child,
    commands: Option<ChildStdin>,
    messages: Receiver<Value>,
    sent: u64,
    page: String,
    /// What the browser complained of, but for answers that are no success.
    pub complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    pub fn start() -> Self {
        let program = program();
        let profile = tempfile::tempdir().unwrap();
        // The descriptors 3 and 4 are where it reads and writes.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 0</dev/null 1>&2"#, program])
            .args(["--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"])
            // Root, as in a container, may not have Chromium's sandbox; and /dev/shm may be small there.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            // No name is known but this machine's own: what needs the internet fails.
            .args([
                "--disable-background-networking",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let (tell, messages) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while answers.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                let heard = tell.send(serde_json::from_slice(&message).unwrap());
                if heard.is_err() {
                    return;
                }
                message.clear();
            }
        });
        Self {
            child,
            commands,
            messages,
            sent: 0,
            page: String::new(),
            complaints: Vec::new(),
            _profile: profile,
        }
    }

    /// Opens a page, and waits until it is loaded.
    pub async fn open(&mut self, address: &str) {
        let target = self.ask("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        self.page = String::new();
        let attached = self.ask("Target.attachToTarget", &attach);
        self.page = attached["sessionId"].as_str().unwrap().to_owned();
        self.ask("Log.enable", &json!({}));
        self.ask("Runtime.enable", &json!({}));
        let opened = self.ask("Page.navigate", &json!({"url": address}));
        assert_eq!(opened.get("errorText"), None, "{address}: {opened}");
        self.becomes("document.readyState === 'complete' && location.href !== 'about:blank'").await;
    }

    /// Waits until an expression is true in the page.
    pub async fn becomes(&mut self, expression: &str) {
        // A page that is being left is no place to ask in.
        eventually(expression, async || self.evaluate(expression).is_ok_and(|value| value == true)).await;
    }

    /// What an expression, or the promise that it is, comes to in the page.
    pub fn run(&mut self, expression: &str) -> Value {
        self.evaluate(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    fn evaluate(&mut self, expression: &str) -> Result<Value, Value> {
        let evaluate = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.try_ask("Runtime.evaluate", &evaluate)?;
        assert_eq!(answer.get("exceptionDetails"), None, "{expression}");
        Ok(answer["result"]["value"].take())
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.try_ask(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn try_ask(&mut self, method: &str, params: &Value) -> Result<Value, Value> {
        self.sent += 1;
        let mut message = json!({"id": self.sent, "method": method, "params": params});
        if !self.page.is_empty() {
            message["sessionId"] = self.page.clone().into();
        }
        let commands = self.commands.as_mut().unwrap();
        commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.messages.recv_timeout(PATIENCE);
            let mut answer = answer.unwrap_or_else(|error| panic!("{method}: {error}"));
            if answer["id"] == self.sent {
                let error = answer.get_mut("error").map(Value::take);
                return error.map_or_else(|| Ok(answer["result"].take()), Err);
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let entry = &event["params"]["entry"];
        if event["method"] == "Runtime.exceptionThrown"
            || (event["method"] == "Log.entryAdded"
                && entry["level"] == "error"
                && entry["source"] != "network")
        {
            self.complaints.push(event["params"].to_string());
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends when nobody can drive it any more.
        drop(self.commands.take());
        let _ended = self.child.wait();
    }
}

fn program() -> &'static str {
    let folders: Vec<_> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let is_there = |program: &&str| folders.iter().any(|folder| folder.join(program).is_file());
    PROGRAMS.into_iter().find(is_there).unwrap_or_else(|| {
        panic!("this test needs Chromium, one of {PROGRAMS:?}; on Debian: apt-get install chromium-headless-shell")
    })
}
