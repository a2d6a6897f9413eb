//! One kept-alive HTTP/1.1 connection: writes rendered bytes, reads a status and skips the body.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest wait for one answer; none of the servers under test needs a tenth of it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// A head longer than this is not an answer of a model server.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const READ_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body_bytes: usize,
}

pub struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were read and not yet used.
    used: std::ops::Range<usize>,
}

impl Connection {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: vec![0; READ_BYTES], used: 0..0 }
    }

    /// Sends one request and reads its answer; after trouble the next call connects anew.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        let asked = match tokio::time::timeout(ANSWER_TIME_MAX, self.exchange(request)).await {
            Ok(asked) => asked,
            Err(_) => Err(Error::from(ErrorKind::TimedOut)),
        };
        if asked.is_err() {
            self.stream = None;
        }
        asked
    }

    pub async fn open(&mut self) -> Result<&mut TcpStream> {
        match &mut self.stream {
            Some(stream) => Ok(stream),
            closed => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                self.used = 0..0;
                Ok(closed.insert(stream))
            }
        }
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.open().await?.write_all(request).await?;
        loop {
            let head = self.head().await?;
            // 1xx answers announce the real one.
            if head.status >= 200 {
                let body_bytes = match head.body {
                    Body::Length(length) => self.skip(length).await?,
                    Body::Chunked => self.skip_chunks().await?,
                };
                if head.closes {
                    self.stream = None;
                }
                return Ok(Answer { status: head.status, body_bytes });
            }
        }
    }

    async fn head(&mut self) -> Result<Head> {
        let mut searched = 0;
        loop {
            let unused = &self.buffer[self.used.clone()];
            if let Some(at) = find(&unused[searched..], b"\r\n\r\n") {
                let end = searched + at + 4;
                let head = Head::parse(&unused[..end])?;
                self.used.start += end;
                return Ok(head);
            }
            searched = unused.len().saturating_sub(3);
            if unused.len() > HEAD_BYTES_MAX {
                return Err(Error::new(ErrorKind::InvalidData, "the head is too long"));
            }
            self.fill().await?;
        }
    }

    async fn skip(&mut self, length: usize) -> Result<usize> {
        let mut left = length;
        loop {
            let taken = left.min(self.used.len());
            self.used.start += taken;
            left -= taken;
            if left == 0 {
                return Ok(length);
            }
            self.fill().await?;
        }
    }

    async fn skip_chunks(&mut self) -> Result<usize> {
        let mut total = 0;
        loop {
            let line = loop {
                let unused = &self.buffer[self.used.clone()];
                if let Some(at) = find(unused, b"\r\n") {
                    let size = std::str::from_utf8(&unused[..at]).ok().and_then(|text| text.split(';').next());
                    let size = size.and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
                    self.used.start += at + 2;
                    break size.ok_or_else(|| Error::new(ErrorKind::InvalidData, "a chunk without a size"))?;
                }
                self.fill().await?;
            };
            self.skip(line + 2).await?;
            total += line;
            if line == 0 {
                return Ok(total);
            }
        }
    }

    async fn fill(&mut self) -> Result<()> {
        if self.used.start > 0 {
            self.buffer.copy_within(self.used.clone(), 0);
            self.used = 0..self.used.len();
        }
        if self.used.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let Some(stream) = &mut self.stream else { return Err(Error::from(ErrorKind::NotConnected)) };
        match stream.read(&mut self.buffer[self.used.end..]).await? {
            0 => Err(Error::from(ErrorKind::UnexpectedEof)),
            read => {
                self.used.end += read;
                Ok(())
            }
        }
    }
}

enum Body {
    Length(usize),
    Chunked,
}

struct Head {
    status: u16,
    body: Body,
    closes: bool,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |what| Error::new(ErrorKind::InvalidData, what);
        let text = std::str::from_utf8(bytes).map_err(|_| bad("the head is not text"))?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let mut head = Self { status: status.ok_or_else(|| bad("no status"))?, body: Body::Length(0), closes: false };
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                head.body = Body::Length(value.parse().map_err(|_| bad("content-length is not a number"))?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
                head.body = Body::Chunked;
            } else if name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close") {
                head.closes = true;
            }
        }
        Ok(head)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What a client understands of two answers on one connection, however the bytes are cut.
    async fn answers(text: &'static str, cut: usize) -> Vec<Answer> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for piece in text.as_bytes().chunks(cut) {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            stream
        });
        let mut connection = Connection::new(address);
        let asked = vec![connection.ask(b"GET /").await.unwrap(), connection.ask(b"GET /").await.unwrap()];
        server.await.unwrap();
        asked
    }

    #[tokio::test]
    async fn answers_are_read_however_they_are_cut() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
                    HTTP/1.1 429 Too Many Requests\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        for cut in [1, 2, 7, text.len()] {
            let expected = vec![Answer { status: 200, body_bytes: 5 }, Answer { status: 429, body_bytes: 5 }];
            assert_eq!(answers(text, cut).await, expected, "cut into pieces of {cut}");
        }
    }

    #[test]
    fn heads_that_are_no_http_are_errors() {
        for text in ["", "HTTP/1.1\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"] {
            assert!(Head::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
