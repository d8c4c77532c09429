use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{DEADLINE, Http, INTERVAL};

/// What Chromium needs to run without a display, and to leave the network alone.
const FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A Chromium window under the control of `ChromeDriver`.
#[derive(Debug)]
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Opens a window with this address, whose size is in pixels.
    #[track_caller]
    pub(crate) fn open(url: &str, width: u32, height: u32) -> Browser {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver, of Debian's chromium-driver: {error}"));
        let port = port(driver.stdout.take().unwrap());
        let profile = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut browser = Browser { driver, address, session: String::new(), _profile: profile };
        browser.start_session(width, height);
        browser.post("/url", &json!({ "url": url }));
        browser
    }

    fn start_session(&mut self, width: u32, height: u32) {
        let mut flags: Vec<String> = FLAGS.map(str::to_owned).into();
        flags.push(format!("--window-size={width},{height}"));
        flags.push(format!("--user-data-dir={}", self._profile.path().display()));
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let session = self.request("POST", "/session", &capabilities);
        self.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        // The window of a headless browser has a minimum width; what the page sees does not.
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
    }

    /// Lets the page see a colour scheme, "light" or "dark".
    #[track_caller]
    pub(crate) fn prefers(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Runs the body of a function in the page, and returns what it returns.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true in the page.
    #[track_caller]
    pub(crate) fn wait_until(&self, expression: &str) {
        let start = Instant::now();
        while self.run(&format!("return Boolean({expression})")) != true {
            if start.elapsed() > DEADLINE {
                panic!("never {expression} in {}", self.run("return document.body.innerText"));
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Returns the messages on the console since the last call.
    #[track_caller]
    pub(crate) fn console(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({ "type": "browser" }));
        let messages = entries.as_array().unwrap().iter();
        messages.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    #[track_caller]
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        self.request("POST", &format!("{}{path}", self.session), body)
    }

    #[track_caller]
    fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut http = Http::connect_to(self.address);
        http.waits_for_up_to(3 * DEADLINE);
        let body = body.to_string();
        http.sends(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let answer = http.receives(true).json();
        assert_eq!(answer["value"]["error"], Value::Null, "{method} {path}: {answer}");
        answer["value"].clone()
    }
}

/// Ends the browser with its session, and then the driver.
impl Drop for Browser {
    fn drop(&mut self) {
        let request = format!("DELETE {} HTTP/1.1\r\nHost: localhost\r\n\r\n", self.session);
        if let Ok(mut stream) = TcpStream::connect(self.address)
            && stream.set_read_timeout(Some(DEADLINE)).is_ok()
            && stream.write_all(request.as_bytes()).is_ok()
        {
            // It answers once the browser has ended.
            let _ = stream.read(&mut [0]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Returns the port that `ChromeDriver` prints.
#[track_caller]
fn port(from: impl Read + Send + 'static) -> u16 {
    let mut lines = BufReader::new(from).lines().map_while(Result::ok);
    let port = lines.find_map(|line| {
        line.strip_suffix('.')?.split_once("started successfully on port ")?.1.parse().ok()
    });
    // What it prints later must not fill the pipe.
    thread::spawn(move || lines.for_each(drop));
    let Some(port) = port else { panic!("ChromeDriver does not name its port") };
    port
}
