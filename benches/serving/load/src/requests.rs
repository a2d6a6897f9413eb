//! Requests as bytes, rendered once before the clock starts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// `request.json` beside the bodies: what the server under test wants to be sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sidecar {
    method: String,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    bodies: Vec<Body>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    file: String,
    /// Where it goes, if not where the others go.
    path: Option<String>,
    /// Offsets in the body that hold a digit, or any byte that a digit may replace. Each request gets other digits, so
    /// that no answer is found in a cache.
    #[serde(default)]
    digits: Vec<usize>,
    /// Headers that this body alone needs, such as the length of its JSON part.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

pub struct Requests {
    rendered: Vec<Rendered>,
}

struct Rendered {
    bytes: Vec<u8>,
    /// From the head's first byte.
    digits: Vec<usize>,
}

impl Requests {
    pub fn read(folder: &Path, address: SocketAddr, extra: &[String]) -> Result<Self> {
        let path = folder.join("request.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let sidecar: Sidecar = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
        ensure!(!sidecar.bodies.is_empty(), "{}: names no bodies", path.display());
        let rendered = sidecar.bodies.iter().map(|body| render(folder, &sidecar, body, address, extra));
        Ok(Self { rendered: rendered.collect::<Result<_>>()? })
    }

    /// Puts the `turn`th request of a run into `request`: bodies take turns, and their digits count the turns.
    pub fn turn(&self, turn: usize, request: &mut Vec<u8>) {
        let next = &self.rendered[turn % self.rendered.len()];
        request.clear();
        request.extend_from_slice(&next.bytes);
        let mut left = turn;
        for &at in &next.digits {
            request[at] = b'0' + (left % 10) as u8;
            left /= 10;
        }
    }
}

fn render(folder: &Path, sidecar: &Sidecar, body: &Body, address: SocketAddr, extra: &[String]) -> Result<Rendered> {
    let file = folder.join(&body.file);
    let bytes = std::fs::read(&file).with_context(|| format!("{}: cannot be read", file.display()))?;
    let outside = body.digits.iter().find(|&&at| at >= bytes.len());
    ensure!(outside.is_none(), "{}: {outside:?} is not an offset in it", file.display());
    let path = body.path.as_ref().unwrap_or(&sidecar.path);
    let mut head = format!("{} {path} HTTP/1.1\r\nhost: {address}\r\n", sidecar.method);
    for (name, value) in sidecar.headers.iter().chain(&body.headers) {
        head += &format!("{name}: {value}\r\n");
    }
    for line in extra {
        ensure!(line.contains(':') && !line.contains(['\r', '\n']), "--header {line:?}: write `name: value`");
        head += &format!("{line}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", bytes.len());
    let digits = body.digits.iter().map(|at| head.len() + at).collect();
    Ok(Rendered { bytes: [head.into_bytes(), bytes].concat(), digits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_take_turns_and_digits_count_them() {
        let rendered = |text: &str| Rendered { bytes: text.as_bytes().to_vec(), digits: vec![4, 3] };
        let requests = Requests { rendered: vec![rendered("a: 00"), rendered("b: 00")] };
        let mut request = Vec::new();
        let texts = [0, 1, 2, 13, 104].map(|turn| {
            requests.turn(turn, &mut request);
            String::from_utf8(request.clone()).unwrap()
        });
        assert_eq!(texts, ["a: 00", "b: 01", "a: 02", "b: 13", "a: 04"]);
    }
}
