//! A real nats-server, and as much of its text protocol as filling a stream takes.

use crate::support::{PATIENCE, text};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Messages sent before the broker's answers to them are read.
const IN_FLIGHT: usize = 500;

pub struct Broker {
    child: Child,
    pub port: u16,
}

fn program() -> Option<&'static str> {
    ["nats-server", "/usr/sbin/nats-server"].into_iter().find(|program| {
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    })
}

impl Broker {
    /// None, said aloud, where there is none and none is required.
    pub fn start(folder: &Path, test: &str) -> Option<Broker> {
        if program().is_none() {
            let required = std::env::var("HOMEOSTAT_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
            assert!(!required, "{test}: nats-server is missing, and HOMEOSTAT_REQUIRE_SERVICES=1; run `make services`");
            println!("skipped: {test}: nats-server is missing; run `make services`");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address").port();
        Some(Broker::on(folder, port))
    }

    /// On a port that it had before.
    pub fn on(folder: &Path, port: u16) -> Broker {
        let child = Command::new(program().expect("it was there"))
            .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the broker starts");
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the broker does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Broker { child, port }
    }

    pub fn source(&self) -> String {
        format!("kind = \"nats\"\nurl = \"nats://127.0.0.1:{}\"\nstream = \"CLICKS\"\nsubject = \"clicks\"", self.port)
    }

    /// A stream for the subject `clicks`.
    pub fn make(&self) {
        let made = json!({"name": "CLICKS", "subjects": ["clicks"], "retention": "limits", "storage": "file",
            "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "discard": "old", "num_replicas": 1});
        let mut client = Client::connect(self.port);
        client.send("$JS.API.STREAM.CREATE.CLICKS", made.to_string().as_bytes());
        client.answer();
    }

    /// Every message is acknowledged when this returns.
    pub fn publish(&self, messages: &[String]) {
        let mut client = Client::connect(self.port);
        for part in messages.chunks(IN_FLIGHT) {
            part.iter().for_each(|message| client.send("clicks", message.as_bytes()));
            part.iter().for_each(|_| client.answer());
        }
    }
}

impl Drop for Broker {
    /// SIGKILL.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    reader: BufReader<TcpStream>,
    writer: std::io::BufWriter<TcpStream>,
}

impl Client {
    fn connect(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let reader = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut client = Client { reader, writer: std::io::BufWriter::new(stream) };
        assert!(client.line().starts_with("INFO"));
        client.writer.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB _IN 1\r\n").expect("taken");
        client
    }

    fn send(&mut self, subject: &str, payload: &[u8]) {
        self.writer.write_all(format!("PUB {subject} _IN {}\r\n", payload.len()).as_bytes()).expect("taken");
        self.writer.write_all(payload).expect("taken");
        self.writer.write_all(b"\r\n").expect("taken");
    }

    /// The next answer, which must be a good one.
    fn answer(&mut self) {
        self.writer.flush().expect("taken");
        loop {
            let line = self.line();
            if line.starts_with("PING") {
                self.writer.write_all(b"PONG\r\n").expect("taken");
                self.writer.flush().expect("taken");
            }
            let Some(head) = line.strip_prefix("MSG ") else { continue };
            let length: usize = head.rsplit(' ').next().and_then(|n| n.trim().parse().ok()).expect("a length");
            let mut payload = vec![0; length + 2];
            self.reader.read_exact(&mut payload).expect("a payload");
            let answer: Value = serde_json::from_slice(&payload[..length]).expect("JSON");
            assert!(answer["error"].is_null(), "{}", text(&payload));
            return;
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line");
        line
    }
}
