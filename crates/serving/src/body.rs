//! Bodies of HTTP requests within their limits of size and time, decompressed. Where a large tensor of four-byte numbers
//! follows a JSON head, its numbers are read as they arrive, which spares the copy of the whole.

use crate::plane::Limits;
use crate::refusal::{Answer, Refusal};
use axum::body::{Bytes, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use std::io::Read as _;

/// Of a body that is too large, so much is read and thrown away, so that the refusal reaches its sender.
const DRAIN_BYTES_MAX: usize = 1 << 30;

/// Smaller tensors come in one piece or two, which are best left as they are.
const NUMBERS_BYTES_MIN: usize = 64 << 10;

/// What a body consists of.
#[derive(Debug)]
pub enum Taken {
    Whole(Bytes),
    /// What stands before the binary tensors, and those as little-endian words.
    Numbers {
        head: Vec<u8>,
        words: Vec<u32>,
    },
}

/// The whole body, decompressed, within the limits of size and time.
pub async fn body_in_time<B>(limits: &Limits, headers: &HeaderMap, body: B) -> Answer<Bytes>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    in_time(limits, read_body(limits.body_bytes_max, headers, body)).await
}

/// The same of an inference request, of which `head` bytes are JSON.
pub async fn request_in_time<B>(limits: &Limits, headers: &HeaderMap, head: Option<usize>, body: B) -> Answer<Taken>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let size = body.size_hint().exact().and_then(|size| usize::try_from(size).ok());
    let plain = !headers.contains_key(header::CONTENT_ENCODING);
    if let (Some(head), Some(size), true) = (head, size, plain)
        && size <= limits.body_bytes_max
        && let Some(rest) = size.checked_sub(head)
        && rest >= NUMBERS_BYTES_MIN
        && rest.is_multiple_of(4)
    {
        return in_time(limits, numbers(head, rest / 4, body)).await;
    }
    body_in_time(limits, headers, body).await.map(Taken::Whole)
}

async fn in_time<T>(limits: &Limits, reading: impl Future<Output = Answer<T>>) -> Answer<T> {
    let read = tokio::time::timeout(limits.body_time_max, reading).await;
    read.unwrap_or_else(|_| Err(Refusal::too_slow(limits.body_time_max)))
}

fn broke_off(error: impl std::fmt::Display) -> Refusal {
    Refusal::malformed(format!("the body broke off: {error}"))
}

/// The whole body, decompressed; or 413 once it is larger than `most`.
pub async fn read_body<B>(most: usize, headers: &HeaderMap, mut body: B) -> Answer<Bytes>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let refuse = || {
        let what = format!("the body is larger than {most} bytes ([server] body_bytes_max); send smaller requests");
        Refusal::too_large(what)
    };
    let mut first = Bytes::new();
    let mut whole: Vec<u8> = Vec::new();
    let mut read = 0usize;
    while let Some(frame) = body.frame().await {
        // What follows a body in trailers is of no interest here.
        let Ok(chunk) = frame.map_err(broke_off)?.into_data() else { continue };
        read += chunk.len();
        if read > DRAIN_BYTES_MAX {
            return Err(refuse());
        }
        if read > most {
            (first, whole) = (Bytes::new(), Vec::new());
        } else if first.is_empty() && whole.is_empty() {
            // Most bodies come in one piece, which is taken as it is.
            first = chunk;
        } else {
            if whole.is_empty() {
                let left = usize::try_from(body.size_hint().lower()).unwrap_or(most);
                whole.reserve_exact(read.saturating_add(left).min(most));
                whole.extend_from_slice(&std::mem::take(&mut first));
            }
            whole.extend_from_slice(&chunk);
        }
    }
    if read > most {
        return Err(refuse());
    }
    let body = if whole.is_empty() { first } else { whole.into() };
    decompressed(headers, body, most, refuse)
}

/// `head` bytes, then so many words; what a sender gives beyond is left unread.
async fn numbers<B>(head: usize, count: usize, mut body: B) -> Answer<Taken>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut text = Vec::with_capacity(head);
    let mut words = Words { words: Vec::with_capacity(count), part: [0; 4], held: 0 };
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(broke_off)?.into_data() else { continue };
        let (first, rest) = chunk.split_at(chunk.len().min(head - text.len()));
        text.extend_from_slice(first);
        words.push(rest);
    }
    if text.len() < head || words.words.len() != count || words.held > 0 {
        return Err(broke_off("it is not as long as its content-length says"));
    }
    Ok(Taken::Numbers { head: text, words: words.words })
}

/// Little-endian words out of pieces of any length.
struct Words {
    words: Vec<u32>,
    /// The beginning of a word whose end is still to come.
    part: [u8; 4],
    held: usize,
}

impl Words {
    fn push(&mut self, mut bytes: &[u8]) {
        while self.held > 0
            && let Some((byte, rest)) = bytes.split_first()
        {
            self.part[self.held] = *byte;
            bytes = rest;
            self.held = (self.held + 1) % 4;
            if self.held == 0 {
                self.words.push(u32::from_le_bytes(self.part));
            }
        }
        let (whole, rest) = bytes.as_chunks::<4>();
        self.words.extend(whole.iter().map(|word| u32::from_le_bytes(*word)));
        self.part[..rest.len()].copy_from_slice(rest);
        self.held += rest.len();
    }
}

fn decompressed(headers: &HeaderMap, body: Bytes, most: usize, refuse: impl Fn() -> Refusal) -> Answer<Bytes> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?").trim());
    let reader: Box<dyn std::io::Read + '_> = match encoding {
        None | Some("" | "identity") => return Ok(body),
        Some("gzip" | "x-gzip") => Box::new(flate2::read::GzDecoder::new(&body[..])),
        Some("deflate") => Box::new(flate2::read::ZlibDecoder::new(&body[..])),
        Some(other) => {
            let what = format!("content-encoding \"{other}\" is not read; gzip and deflate are");
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "malformed", what));
        }
    };
    let mut whole = Vec::new();
    let got = reader.take(most as u64 + 1).read_to_end(&mut whole);
    got.map_err(|error| Refusal::malformed(format!("the body is not what its content-encoding says: {error}")))?;
    if whole.len() > most { Err(refuse()) } else { Ok(whole.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::HeaderValue;
    use flate2::Compression;
    use flate2::read::{GzEncoder, ZlibEncoder};
    use http_body_util::StreamBody;
    use hyper::body::{Frame, SizeHint};
    use proptest::prelude::*;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    #[tokio::test]
    async fn bodies_are_decompressed_within_the_limit() {
        let text = b"abc".repeat(1000);
        let (mut zipped, mut deflated) = (Vec::new(), Vec::new());
        GzEncoder::new(&text[..], Compression::fast()).read_to_end(&mut zipped).unwrap();
        ZlibEncoder::new(&text[..], Compression::fast()).read_to_end(&mut deflated).unwrap();
        for (name, body) in [("gzip", zipped), ("deflate", deflated)] {
            let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(name))]);
            assert_eq!(read_body(3000, &headers, Body::from(body.clone())).await.unwrap(), text);
            let refused = read_body(2999, &headers, Body::from(body)).await.unwrap_err();
            assert_eq!(refused.status, 413, "a small body that unpacks to a large one");
            let broken = read_body(3000, &headers, Body::from("no")).await.unwrap_err();
            assert_eq!(broken.status, 400);
        }
    }

    /// A body that says how long it is and comes in pieces.
    struct Pieces {
        pieces: std::vec::IntoIter<Bytes>,
        size: u64,
    }

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(self.pieces.next().map(|piece| Ok(Frame::data(piece))))
        }
        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.size)
        }
    }

    fn pieces(bytes: &[u8], cuts: &[usize], size: usize) -> Pieces {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<Bytes> = cuts.windows(2).map(|pair| Bytes::copy_from_slice(&bytes[pair[0]..pair[1]])).collect();
        Pieces { pieces: pieces.into_iter(), size: size as u64 }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn numbers_are_the_same_in_whatever_pieces_they_come(
            head in 0usize..50,
            words in proptest::collection::vec(any::<u32>(), NUMBERS_BYTES_MIN / 4..NUMBERS_BYTES_MIN / 4 + 50),
            cuts in proptest::collection::vec(any::<usize>(), 0..40),
        ) {
            let mut bytes = vec![b'{'; head];
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            let body = pieces(&bytes, &cuts, bytes.len());
            match run(request_in_time(&Limits::default(), &HeaderMap::new(), Some(head), body)).unwrap() {
                Taken::Numbers { head: text, words: read } => {
                    prop_assert_eq!(text, vec![b'{'; head]);
                    prop_assert_eq!(read, words);
                }
                Taken::Whole(_) => prop_assert!(false, "it was not read as numbers"),
            }
            let whole = run(read_body(1 << 20, &HeaderMap::new(), pieces(&bytes, &cuts, bytes.len()))).unwrap();
            prop_assert_eq!(&whole[..], &bytes[..]);
        }
    }

    #[tokio::test]
    async fn what_is_short_small_odd_or_packed_is_not_read_as_numbers() {
        let (limits, plain, long) = (Limits::default(), HeaderMap::new(), vec![0; NUMBERS_BYTES_MIN]);
        let broken = request_in_time(&limits, &plain, Some(0), pieces(&long, &[], long.len() + 4)).await.unwrap_err();
        assert_eq!(broken.status, 400);
        let whole = |taken: Answer<Taken>| matches!(taken, Ok(Taken::Whole(bytes)) if bytes == long);
        assert!(whole(request_in_time(&limits, &plain, Some(1), pieces(&long, &[], long.len())).await));
        assert!(whole(request_in_time(&limits, &plain, Some(4), pieces(&long, &[], long.len())).await));
        assert!(whole(request_in_time(&limits, &plain, None, pieces(&long, &[], long.len())).await));
        let identity = HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static("identity"))]);
        assert!(whole(request_in_time(&limits, &identity, Some(0), pieces(&long, &[], long.len())).await));
        let small = Limits { body_bytes_max: 1000, ..Limits::default() };
        let large = request_in_time(&small, &plain, Some(0), pieces(&long, &[], long.len())).await.unwrap_err();
        assert_eq!(large.status, 413);
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_refused_in_time() {
        let limits = Limits { body_time_max: std::time::Duration::from_millis(30), ..Limits::default() };
        let silent = || StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
        let refused = body_in_time(&limits, &HeaderMap::new(), silent()).await.unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.reason), (408, "too_slow"));
        let refused = request_in_time(&limits, &HeaderMap::new(), Some(2), silent()).await.unwrap_err();
        assert_eq!(refused.status, 408);
    }
}
