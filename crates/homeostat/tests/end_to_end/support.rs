//! Small helpers: a project made of seeded rows, a running server, HTTP over a plain socket.

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Waits have this deadline; nothing here takes a tenth of it.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn homeostat(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_homeostat")).args(args).current_dir(folder).output().expect("the binary starts")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command with `--json` that must end with status 0.
pub fn told(folder: &Path, args: &[&str]) -> Value {
    let mut args = args.to_vec();
    args.push("--json");
    let output = homeostat(folder, &args);
    assert!(output.status.success(), "{args:?}: {}\n{}", text(&output.stderr), text(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {}", text(&output.stdout)))
}

/// Runs a command that must end with `status`; gives what it said.
pub fn refused(folder: &Path, args: &[&str], status: i32) -> String {
    let output = homeostat(folder, args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Orders: returned or not depends on price, shop and hour.
pub fn orders(rows: usize) -> String {
    let mut random = Random(11);
    let mut csv = String::from("order_id,at,price,shop,express,returned\n");
    for row in 0..rows {
        let (price, shop) = (5.0 + 95.0 * random.unit(), ["north", "south", "web"][(3.0 * random.unit()) as usize]);
        let express = random.unit() < 0.3;
        let odds = 0.02 * (price - 50.0) + if shop == "web" { 1.0 } else { -0.5 } + if express { 0.5 } else { 0.0 };
        let returned = u8::from(random.unit() < 1.0 / (1.0 + (-odds).exp()));
        let (day, hour) = (1 + row / 96 % 28, row / 4 % 24);
        let price = if random.unit() < 0.05 { String::new() } else { format!("{price:.2}") };
        csv.push_str(&format!(
            "o{row},2024-{:02}-{day:02}T{hour:02}:{:02}:00Z,{price},{shop},{express},{returned}\n",
            1 + row / 2688,
            row % 4 * 15
        ));
    }
    csv
}

pub struct Project {
    pub folder: tempfile::TempDir,
}

impl Project {
    /// `init` on the orders, with no edits.
    pub fn orders(rows: usize) -> Project {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("orders.csv"), orders(rows)).expect("the data can be written");
        told(
            folder.path(),
            &["init", "shop", "--data", "orders.csv", "--target", "returned", "--time", "at", "--key", "order_id"],
        );
        Project { folder }
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("shop")
    }

    pub fn trained(rows: usize) -> Project {
        let project = Project::orders(rows);
        told(&project.root(), &["train"]);
        project
    }

    pub fn set(&self, section: &str, line: &str) {
        let path = self.root().join("homeostat.toml");
        let text = std::fs::read_to_string(&path).expect("the project's file");
        let marked = format!("[{section}]");
        let text = if text.contains(&marked) {
            text.replace(&marked, &format!("{marked}\n{line}"))
        } else {
            format!("{text}\n{marked}\n{line}\n")
        };
        std::fs::write(path, text).expect("the project's file");
    }
}

pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    pub fn start(root: &Path) -> Server {
        let _ = std::fs::remove_file(root.join(".homeostat/server.json"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_homeostat"))
            .args(["serve", "--port", "0"])
            .current_dir(root)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let place = std::fs::read(root.join(".homeostat/server.json")).ok();
            let place: Option<Value> = place.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(port) = place.and_then(|place| place["port"].as_u64()) {
                return Server { child, port: port as u16 };
            }
            if let Ok(Some(status)) = child.try_wait() {
                let mut said = String::new();
                let _ = child.stderr.take().expect("its errors").read_to_string(&mut said);
                panic!("the server ended with {status}: {said}");
            }
            assert!(Instant::now() < deadline, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        request(self.port, "GET", path, b"", &[])
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        request(self.port, "POST", path, body.to_string().as_bytes(), &[])
    }

    pub fn raw(&self, path: &str, body: &[u8], headers: &[(&str, &str)]) -> (u16, Value) {
        request(self.port, "POST", path, body, headers)
    }

    /// An answer that must be 200.
    pub fn ok(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub fn predict(&self, rows: &[Value]) -> Value {
        let (status, body) = self.post("/v1/models/returned/predict", &json!({ "rows": rows }));
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The most memory that the process ever held.
    pub fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells it");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
    }

    pub fn kill(mut self) {
        self.kill_now();
        self.child.wait().expect("it ends");
    }

    /// SIGKILL, while others may still be talking to it.
    pub fn kill_now(&self) {
        Command::new("kill").args(["-9", &self.child.id().to_string()]).status().expect("kill runs");
    }

    /// SIGTERM; it must end well.
    pub fn stop(self) {
        self.terminate();
        self.ended();
    }

    /// SIGTERM, after which it still answers for a while.
    pub fn terminate(&self) {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill runs");
    }

    /// Waits until it has ended, well.
    pub fn ended(mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be asked") {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn request(port: u16, method: &str, path: &str, body: &[u8], headers: &[(&str, &str)]) -> (u16, Value) {
    let (status, bytes) = exchange(port, method, path, body, headers);
    let value = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(text(&bytes)));
    (status, value)
}

fn exchange(port: u16, method: &str, path: &str, body: &[u8], headers: &[(&str, &str)]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).expect("the head is taken");
    stream.write_all(body).expect("the body is taken");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let split = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    let head = text(&answer[..split]);
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let body = &answer[split..];
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    (status, if chunked { unchunked(body) } else { body.to_vec() })
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(text(&body[..end]).trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
    whole
}

pub fn order(n: usize) -> Value {
    json!({ "order_id": format!("new-{n}"), "at": "2024-03-01T10:00:00Z", "price": 20.0 + n as f64, "shop": "web", "express": true })
}
