//! A real Chromium without a window, driven over `WebDriver`: the few requests of it that these tests need.

// Tests run on the wall clock, with real processes.
#![allow(clippy::disallowed_methods)]

use crate::common;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Keeps what the page complains about, before any script of the page runs: faults, and what its content policy forbade.
const LISTEN: &str = "window.noted = [];
    addEventListener('error', (event) => noted.push(`error: ${event.message}`));
    addEventListener('unhandledrejection', (event) => noted.push(`rejected: ${event.reason}`));
    document.addEventListener('securitypolicyviolation', (event) => noted.push(`policy: ${event.violatedDirective} ${event.blockedURI}`));";

/// A driver on a port of its own, and one browser. Dropped, both are killed.
#[derive(Debug)]
pub struct Browser {
    client: reqwest::Client,
    session: String,
    driver: Child,
    profile: tempfile::TempDir,
}

impl Browser {
    /// `None`, and a loud line, where there is no browser.
    pub async fn start() -> Option<Self> {
        let spawned = Command::new("chromedriver")
            .arg("--port=0")
            // Its browsers are in its group, and go with it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = match spawned {
            Ok(driver) => driver,
            Err(error) => {
                assert!(
                    std::env::var_os("SHARDWRIGHT_BROWSER_REQUIRED").is_none(),
                    "no chromedriver: {error}"
                );
                eprintln!("SKIPPED: no chromedriver ({error}); install chromium and chromium-driver");
                return None;
            }
        };
        let mut said = BufReader::new(driver.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let port = said
            .find_map(|line| {
                line.split_once("successfully on port ")?.1.trim_end_matches('.').parse::<u16>().ok()
            })
            .expect("chromedriver says its port");
        // It must not wait for a reader of what else it says.
        std::thread::spawn(move || said.for_each(drop));
        let profile = tempfile::tempdir().expect("a directory");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut browser =
            Self { client, session: format!("http://127.0.0.1:{port}/session"), driver, profile };
        let arguments = [
            "--headless=new",
            // Tests may run as root, where Chromium has no sandbox; it opens nothing but our own page.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ];
        let own = format!("--user-data-dir={}", browser.profile.path().display());
        let all: Vec<&str> = arguments.into_iter().chain([own.as_str()]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": { "args": all } } } });
        let made = browser.post("", &wanted).await;
        browser.session = format!("{}/{}", browser.session, made["sessionId"].as_str().expect("a session"));
        browser.before_pages(LISTEN).await;
        Some(browser)
    }

    /// Runs `script` in every page that is opened from now on, before any script of the page.
    pub async fn before_pages(&self, script: &str) {
        let source =
            json!({ "cmd": "Page.addScriptToEvaluateOnNewDocument", "params": { "source": script } });
        self.post("/goog/cdp/execute", &source).await;
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let sent = self.client.post(format!("{}{path}", self.session)).json(body).send().await;
        let answer: Value = sent.expect("chromedriver answers").json().await.expect("JSON");
        assert!(answer["value"]["error"].is_null(), "{path} {body}: {answer}");
        answer["value"].clone()
    }

    pub async fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url })).await;
    }

    /// What the function body `script` returns.
    pub async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] })).await
    }

    /// Waits until `script` returns true.
    pub async fn until(&self, what: &str, script: &str) {
        common::wait_for(what, || async {
            match self.run(script).await {
                Value::Bool(true) => Ok(()),
                other => Err(format!("{other}; the page shows:\n{}", self.text().await)),
            }
        })
        .await;
    }

    /// All words on the page.
    pub async fn text(&self) -> String {
        self.run("return document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    async fn element(&self, css: &str) -> String {
        let found = self.post("/element", &json!({ "using": "css selector", "value": css })).await;
        let id = found.as_object().and_then(|found| found.values().next()?.as_str().map(ToOwned::to_owned));
        id.unwrap_or_else(|| panic!("{css}: {found}"))
    }

    /// Clicks as a person does: what is covered or hidden cannot be clicked.
    pub async fn click(&self, css: &str) {
        let element = self.element(css).await;
        self.post(&format!("/element/{element}/click"), &json!({})).await;
    }

    /// Types into a field, or presses keys.
    pub async fn write(&self, css: &str, text: &str) {
        let element = self.element(css).await;
        self.post(&format!("/element/{element}/value"), &json!({ "text": text })).await;
    }

    /// The screen of a phone, or of a wall.
    pub async fn size(&self, width: u32, height: u32) {
        let wanted = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": wanted });
        self.post("/goog/cdp/execute", &command).await;
    }

    /// What the page complained about since it was opened.
    pub async fn complaints(&self) -> Value {
        self.run("return window.noted").await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = format!("-{}", self.driver.id());
        let _gone = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _gone = self.driver.wait();
    }
}
