//! Answers are compressed on request; streams and frames never are.
//!
//! All other answers are whole in memory, or short enough to be taken whole from the node that made them, so this is one
//! call and no stream adapter.

use std::io::Write;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::failure::Failure;

/// Smaller answers are not worth it.
const BYTES_MIN: u64 = 1_024;
/// Larger answers are compressed off the reactor.
const INLINE_BYTES_MAX: usize = 64 << 10;
const GZIP_LEVEL: u32 = 4;
const ZSTD_LEVEL: i32 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Encoding {
    Zstd,
    Gzip,
}

/// Compresses the answer if the client asked for it and the answer is of a kind that gains by it.
///
/// # Errors
/// A long answer of another node broke off.
pub(crate) async fn compress(wanted: Option<&HeaderValue>, mut response: Response) -> Result<Response, Failure> {
    if !is_compressible(&response) {
        return Ok(response);
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let Some(encoding) = wanted.and_then(|value| value.to_str().ok()).and_then(choose) else { return Ok(response) };
    let (mut parts, body) = response.into_parts();
    let plain = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(_) => return Err(pointsman_broker::Error::OutcomeUnknown.into()),
    };
    let packed = if plain.len() <= INLINE_BYTES_MAX {
        pack(encoding, &plain)
    } else {
        let copy = plain.clone();
        tokio::task::spawn_blocking(move || pack(encoding, &copy)).await.ok().flatten()
    };
    let Some(packed) = packed else { return Ok(Response::from_parts(parts, Body::from(plain))) };
    let name = match encoding {
        Encoding::Zstd => "zstd",
        Encoding::Gzip => "gzip",
    };
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::from(packed)))
}

/// JSON and text, whole, without a strong tag (which would name other bytes).
fn is_compressible(response: &Response) -> bool {
    let headers = response.headers();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let gains = ["application/json", "application/problem+json", "application/openmetrics-text"];
    gains.iter().any(|gain| kind.starts_with(gain))
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::ETAG)
        && response.body().size_hint().exact().is_some_and(|length| length >= BYTES_MIN)
}

fn choose(accept_encoding: &str) -> Option<Encoding> {
    let mut best: Option<(Encoding, f32)> = None;
    for item in accept_encoding.split(',') {
        let mut pieces = item.split(';').map(str::trim);
        let encoding = match pieces.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "zstd" => Encoding::Zstd,
            "gzip" | "x-gzip" => Encoding::Gzip,
            _ => continue,
        };
        let quality = pieces.find_map(|p| p.strip_prefix("q=")).and_then(|q| q.parse().ok()).unwrap_or(1.0);
        let better = best.is_none_or(|(held, q)| quality > q || (quality == q && held == Encoding::Gzip));
        if quality > 0.0 && better {
            best = Some((encoding, quality));
        }
    }
    best.map(|(encoding, _)| encoding)
}

fn pack(encoding: Encoding, plain: &[u8]) -> Option<Bytes> {
    match encoding {
        Encoding::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL).ok().map(Bytes::from),
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(plain).ok()?;
            encoder.finish().ok().map(Bytes::from)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses() {
        for (value, expected) in [
            ("gzip", Some(Encoding::Gzip)),
            ("gzip, zstd", Some(Encoding::Zstd)),
            ("zstd;q=0.1, gzip;q=0.5", Some(Encoding::Gzip)),
            ("gzip;q=0", None),
            ("br, identity", None),
        ] {
            assert_eq!(choose(value), expected, "{value}");
        }
    }

    async fn check(kind: &'static str, length: usize, expected: Option<&str>) {
        let mut response = Response::new(Body::from(vec![b'x'; length]));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let response = compress(Some(&HeaderValue::from_static("gzip")), response).await.expect("whole");
        let found = response.headers().get(header::CONTENT_ENCODING).and_then(|v| v.to_str().ok()).map(str::to_owned);
        assert_eq!(found.as_deref(), expected, "{kind} {length}");
    }

    #[tokio::test]
    async fn only_whole_json_and_text_of_some_size() {
        check("application/json", 1_023, None).await;
        check("application/json", 1_024, Some("gzip")).await;
        check("application/problem+json", 100_000, Some("gzip")).await;
        check("application/x-ndjson", 100_000, None).await;
        check("text/event-stream", 100_000, None).await;
        check("application/vnd.pointsman.frames", 100_000, None).await;
    }
}
