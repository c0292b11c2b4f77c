//! Samples as dedups, retry policies and check-backs meet them, and what those say, in words.

use pointsman_model::judge::{CheckAnswer, DedupKey, Half, RetryAnswer, RetryQuestion};
use pointsman_model::{Timestamp, limits};

use super::{NOW_MS, Sample, TOPIC};

/// The group that a sample failed in.
const GROUP: &str = "billing";
/// How long a sample was delivered, or prepared, before it is asked about.
const BEFORE_MS: u64 = 30_000;

/// A sample whose attempt ended badly.
pub(crate) fn question(sample: &Sample, attempt: u16, reason: Option<&str>) -> RetryQuestion {
    RetryQuestion {
        topic: TOPIC.to_owned(),
        group: GROUP.to_owned(),
        attempt,
        max_retries: limits::RETRIES_DEFAULT,
        tag: sample.tag.clone(),
        keys: sample.keys.clone(),
        ordering_key: sample.ordering_key.clone(),
        properties: sample.properties.clone(),
        priority: sample.priority,
        body_bytes: u32::try_from(sample.body.len()).unwrap_or(u32::MAX),
        stored_at: Timestamp(NOW_MS - BEFORE_MS),
        first_delivered_at: Some(Timestamp(NOW_MS - BEFORE_MS)),
        delivered_at: Some(Timestamp(NOW_MS - BEFORE_MS)),
        now: Timestamp(NOW_MS),
        expired: reason.is_none(),
        reason: reason.map(str::to_owned),
        client_id: None,
    }
}

/// A sample as the first message of a transaction that nobody ended.
pub(crate) fn half(sample: &Sample) -> Half {
    Half {
        transaction: "tsample".to_owned(),
        producer_group: "default".to_owned(),
        prepared_at: Timestamp(NOW_MS - BEFORE_MS),
        now: Timestamp(NOW_MS),
        messages: 1,
        topic: TOPIC.to_owned(),
        tag: sample.tag.clone(),
        keys: sample.keys.clone(),
        ordering_key: sample.ordering_key.clone(),
        properties: sample.properties.clone(),
        content_type: None,
        body: sample.body.clone().into(),
    }
}

/// A dedup's answer.
pub(crate) fn key_words(key: Option<&DedupKey>) -> String {
    match key {
        None => "no key: stored whatever was there before".to_owned(),
        Some(DedupKey { key, ttl_ms: None }) => format!("key {key}"),
        Some(DedupKey { key, ttl_ms: Some(ttl_ms) }) => format!("key {key} for {ttl_ms} ms"),
    }
}

/// A retry policy's answer.
pub(crate) fn retry_words(answer: &RetryAnswer) -> String {
    match answer {
        RetryAnswer::Again { delay_ms, scaled: false } => format!("again after {delay_ms} ms"),
        RetryAnswer::Again { delay_ms, scaled: true } => format!("again after {delay_ms} ms times `time_scale`"),
        RetryAnswer::DeadLetter { reason: None } => "dead letter".to_owned(),
        RetryAnswer::DeadLetter { reason: Some(reason) } => format!("dead letter: {reason}"),
        RetryAnswer::Drop => "drop: as if acknowledged".to_owned(),
    }
}

/// A check-back's answer.
pub(crate) fn check_words(answer: &CheckAnswer) -> String {
    match answer {
        CheckAnswer::Commit => "commit".to_owned(),
        CheckAnswer::Rollback => "rollback".to_owned(),
        CheckAnswer::Unknown { after_ms: None } => "unknown".to_owned(),
        CheckAnswer::Unknown { after_ms: Some(ms) } => format!("unknown, again after {ms} ms"),
        CheckAnswer::Ask(request) => format!("ask {} {}", request.method.as_str(), request.url),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pointsman_model::judge::{OutsideMethod, OutsideRequest};

    use super::*;

    #[test]
    fn a_sample_without_a_reason_ran_out() {
        let sample = &super::super::built_in()[0];
        let asked = question(sample, 2, None);
        assert_eq!((asked.attempt, asked.expired, asked.tag.as_deref()), (2, true, Some("paid")));
        let asked = question(sample, 1, Some("busy"));
        assert_eq!((asked.expired, asked.reason.as_deref()), (false, Some("busy")));
    }

    #[test]
    fn answers_in_words() {
        let key = |ttl_ms| DedupKey { key: "a".into(), ttl_ms };
        assert_eq!(key_words(Some(&key(None))), "key a");
        assert_eq!(key_words(Some(&key(Some(5)))), "key a for 5 ms");
        assert!(key_words(None).starts_with("no key"));
        let again = |scaled| retry_words(&RetryAnswer::Again { delay_ms: 5, scaled });
        assert_eq!(
            (again(false).as_str(), again(true).as_str()),
            ("again after 5 ms", "again after 5 ms times `time_scale`")
        );
        let dead = RetryAnswer::DeadLetter { reason: Some("no".into()) };
        assert_eq!(retry_words(&dead), "dead letter: no");
        let (method, url) = (OutsideMethod::Post, "http://a/".to_owned());
        let ask = CheckAnswer::Ask(OutsideRequest { method, url, headers: Vec::new(), body: Bytes::new() });
        assert_eq!(check_words(&ask), "ask POST http://a/");
        assert_eq!(check_words(&CheckAnswer::Unknown { after_ms: Some(7) }), "unknown, again after 7 ms");
    }
}
