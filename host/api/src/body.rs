//! Request bodies: caps on compressed and plain bytes, an idle timeout, and a node-wide budget.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use pointsman_api_types::Code;
use pointsman_model::limits;

use crate::failure::Failure;
use crate::headers;

/// A compressed body may grow by this factor...
const RATIO_MAX: usize = 100;
/// ...once it is larger than this.
const RATIO_FREE_BYTES: usize = 64 << 10;
/// Largest zstd window: 8 MiB. The library's own limit is 128 MiB a request.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Compressed bodies above this are decompressed off the reactor.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// Step of the decompression, after which caps are checked.
const STEP_BYTES: usize = 64 << 10;

/// Bytes of bodies that are being read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// Bytes held now.
    pub(crate) fn held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One body's share, given back when it is dropped.
pub(crate) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Share {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self { budget: budget.clone(), bytes: 0 }
    }

    /// Holds this much from now on.
    ///
    /// # Errors
    /// The node holds as much as it may.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Failure> {
        let freed = self.bytes.saturating_sub(bytes);
        self.budget.0.fetch_sub(freed, Ordering::Relaxed);
        self.bytes -= freed;
        self.grow(bytes - self.bytes)
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes;
        let held = self.budget.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held > limits::REQUEST_BODIES_BYTES_MAX {
            return Err(Failure::new(Code::Overloaded, "too many request bodies are being read"));
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How a body may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cap {
    /// Bytes, compressed and plain.
    pub(crate) bytes: usize,
    /// The code when it is larger.
    pub(crate) code: Code,
}

impl Cap {
    /// JSON bodies other than publishing.
    pub(crate) const CONTROL: Self = Self { bytes: limits::CONTROL_BODY_BYTES_MAX, code: Code::BodyTooLarge };
    /// Bodies of a publish with several messages.
    pub(crate) const PUBLISH: Self = Self { bytes: limits::PUBLISH_BODY_BYTES_MAX, code: Code::BodyTooLarge };
    /// The payload of one message.
    pub(crate) const MESSAGE: Self = Self { bytes: limits::PUBLISH_BODY_BYTES_MAX, code: Code::MessageTooLarge };
    /// A plugin component.
    pub(crate) const PLUGIN: Self = Self { bytes: limits::PLUGIN_BYTES_CAP as usize, code: Code::PluginTooLarge };

    fn exceeded(self) -> Failure {
        Failure::new(self.code, format!("the body is larger than {} bytes", self.bytes))
    }
}

#[derive(Clone, Copy)]
enum Encoding {
    Gzip,
    Zstd,
}

fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, Failure> {
    match headers::text(headers, &header::CONTENT_ENCODING)?.map(|text| text.trim().to_ascii_lowercase()).as_deref() {
        None | Some("" | "identity") => Ok(None),
        Some("gzip" | "x-gzip") => Ok(Some(Encoding::Gzip)),
        Some("zstd") => Ok(Some(Encoding::Zstd)),
        Some(_) => Err(Failure::at(Code::UnsupportedMediaType, "Content-Encoding", "gzip, zstd or identity")
            .with_header(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd, identity"))),
    }
}

/// Reads a whole body, plain.
pub(crate) async fn read(budget: &Budget, headers: &HeaderMap, body: Body, cap: Cap) -> Result<Bytes, Failure> {
    let encoding = encoding(headers)?;
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|t| t.parse::<usize>().ok());
    if announced.is_some_and(|length| length > cap.bytes) {
        return Err(cap.exceeded());
    }
    let mut share = Share::new(budget);
    let raw = collect(body, announced.unwrap_or(0), cap, &mut share).await?;
    match encoding {
        None => Ok(raw),
        Some(encoding) if raw.len() <= INLINE_BYTES_MAX => decompress(encoding, &raw, cap, &mut share),
        Some(encoding) => tokio::task::spawn_blocking(move || decompress(encoding, &raw, cap, &mut share))
            .await
            .map_err(|error| crate::failure::internal(&error.to_string()))?,
    }
}

async fn collect(mut body: Body, announced: usize, cap: Cap, share: &mut Share) -> Result<Bytes, Failure> {
    let idle = Duration::from_millis(limits::REQUEST_BODY_IDLE_MS_MAX);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(idle, body.frame()).await;
        let Some(frame) = frame.map_err(|_| stopped())? else { break };
        let Ok(data) = frame.map_err(broke_off)?.into_data() else { continue };
        let have = first.len().max(rest.len());
        if have + data.len() > cap.bytes {
            return Err(cap.exceeded());
        }
        share.grow(data.len())?;
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve(announced.max(first.len() + data.len()));
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// Reads a body as it comes, up to one byte more than `cap`.
pub(crate) async fn pieces(body: &mut Body, cap: usize, share: &mut Share) -> Result<Vec<Bytes>, Failure> {
    let idle = Duration::from_millis(limits::REQUEST_BODY_IDLE_MS_MAX);
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    while bytes <= cap {
        let frame = tokio::time::timeout(idle, body.frame()).await;
        let Some(frame) = frame.map_err(|_| stopped())? else { break };
        let Ok(mut data) = frame.map_err(broke_off)?.into_data() else { continue };
        data.truncate(cap + 1 - bytes);
        bytes += data.len();
        share.grow(data.len())?;
        pieces.push(data);
    }
    Ok(pieces)
}

fn stopped() -> Failure {
    Failure::new(Code::RequestTimeout, "the body stopped coming")
}

fn broke_off(error: axum::Error) -> Failure {
    Failure::new(Code::InvalidRequest, format!("the body broke off: {error}"))
}

fn decompress(encoding: Encoding, raw: &[u8], cap: Cap, share: &mut Share) -> Result<Bytes, Failure> {
    let broken = |error: io::Error| {
        Failure::at(Code::InvalidRequest, "Content-Encoding", format!("the compressed body is broken: {error}"))
    };
    let mut plain = Vec::new();
    match encoding {
        Encoding::Gzip => {
            let mut decoder = flate2::bufread::GzDecoder::new(raw);
            inflate(&mut decoder, raw.len(), cap, share, &mut plain, broken)?;
            if !decoder.into_inner().is_empty() {
                return Err(broken(io::Error::other("bytes after its end")));
            }
        }
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(raw).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
            inflate(&mut decoder, raw.len(), cap, share, &mut plain, broken)?;
        }
    }
    Ok(plain.into())
}

fn inflate(
    decoder: &mut impl Read,
    compressed: usize,
    cap: Cap,
    share: &mut Share,
    plain: &mut Vec<u8>,
    broken: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    loop {
        let got = decoder.by_ref().take(STEP_BYTES as u64).read_to_end(plain).map_err(&broken)?;
        share.grow(got)?;
        if plain.len() > cap.bytes {
            return Err(cap.exceeded());
        }
        if plain.len() > RATIO_FREE_BYTES && plain.len() > compressed.saturating_mul(RATIO_MAX) {
            return Err(Failure::at(
                cap.code,
                "Content-Encoding",
                format!("the body grows more than {RATIO_MAX} times"),
            ));
        }
        if got < STEP_BYTES {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
