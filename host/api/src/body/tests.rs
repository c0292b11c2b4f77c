//! Caps one below, at and above; compressed bodies; the budget.

use std::io::Write;

use super::*;

const CAP: Cap = Cap { bytes: 200_000, code: Code::BodyTooLarge };

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

/// Bytes that compress badly.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(length)
    .collect()
}

async fn run(encoding: Option<&'static str>, body: Vec<u8>) -> Result<Bytes, Code> {
    let budget = Budget::default();
    let mut headers = HeaderMap::new();
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    let pieces: Vec<Result<Bytes, io::Error>> = body.chunks(10_000).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    let result = read(&budget, &headers, body, CAP).await.map_err(|f| f.problem().code);
    assert_eq!(budget.held(), 0, "every share is given back");
    result
}

#[tokio::test]
async fn plain_bodies_one_below_at_and_above() {
    for (length, ok) in [(0, true), (1, true), (199_999, true), (200_000, true), (200_001, false)] {
        let body = noise(length);
        let expected = if ok { Ok(Bytes::from(body.clone())) } else { Err(Code::BodyTooLarge) };
        assert_eq!(run(None, body).await, expected, "{length}");
    }
}

#[tokio::test]
async fn compressed_bodies() {
    let body = noise(150_000);
    assert_eq!(run(Some("gzip"), gzip(&body)).await, Ok(body.clone().into()));
    assert_eq!(run(Some("GZIP"), gzip(b"x")).await, Ok("x".into()));
    let packed = zstd::encode_all(&body[..], 1).expect("in memory");
    assert_eq!(run(Some("zstd"), packed.clone()).await, Ok(body.into()));
    assert_eq!(run(Some("zstd"), packed[..1_000].to_vec()).await, Err(Code::InvalidRequest), "cut");
    assert_eq!(run(Some("gzip"), b"nonsense".to_vec()).await, Err(Code::InvalidRequest));
    let mut trailing = gzip(b"x");
    trailing.push(0);
    assert_eq!(run(Some("gzip"), trailing).await, Err(Code::InvalidRequest), "bytes after the end");
    assert_eq!(run(Some("br"), b"x".to_vec()).await, Err(Code::UnsupportedMediaType));
}

#[tokio::test]
async fn bombs() {
    assert_eq!(run(Some("gzip"), gzip(&vec![0; 190_000])).await, Err(Code::BodyTooLarge), "the ratio");
    assert_eq!(run(Some("gzip"), gzip(&noise(200_001))).await, Err(Code::BodyTooLarge), "the cap");
    assert_eq!(run(Some("gzip"), gzip(&vec![0; 60_000])).await, Ok(vec![0; 60_000].into()), "small ones may grow");
}

#[tokio::test]
async fn the_budget_is_shared() {
    let budget = Budget::default();
    let mut held = Share::new(&budget);
    held.grow(limits::REQUEST_BODIES_BYTES_MAX - 10).expect("fits");
    let ten = read(&budget, &HeaderMap::new(), Body::from(vec![0; 10]), CAP).await;
    assert_eq!(ten.map_err(|f| f.problem().code), Ok(Bytes::from(vec![0; 10])));
    let eleven = read(&budget, &HeaderMap::new(), Body::from(vec![0; 11]), CAP).await;
    assert_eq!(eleven.map_err(|f| f.problem().code), Err(Code::Overloaded));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_408() {
    let body = Body::from_stream(futures_util::stream::pending::<Result<Bytes, io::Error>>());
    let result = read(&Budget::default(), &HeaderMap::new(), body, CAP).await;
    assert_eq!(result.map_err(|f| f.problem().code), Err(Code::RequestTimeout));
}
