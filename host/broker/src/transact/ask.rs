//! A check by plugin: what the topic's check-back binding says of a transaction.
//!
//! The plugin does no I/O. It may name a request; the host makes it, within the binding's allow-list, and the plugin
//! judges the response. Whatever goes wrong is no verdict: nothing commits by itself.

use std::time::Duration;

use pointsman_model::judge::{CheckAnswer, CheckResponse, Half, Verdict};
use pointsman_model::record::{Header, kind};
use pointsman_model::{TenantId, Timestamp, TopicId, limits};
use pointsman_state_machine::command::{
    Durability, Judged, PublishHead, ResolvedBy, TransactionChecked, TransactionVerdict,
};
use pointsman_state_machine::state::{Binding, Part, Transaction};

use super::resolve::{Resolved, Says, resolve};
use crate::batcher::Request;
use crate::error::Error;
use crate::lease::head;
use crate::ports::Judge;
use crate::shard::ShardParts;

/// A check of a transaction.
pub(super) struct Question {
    pub(super) tenant: TenantId,
    pub(super) transaction: Transaction,
    pub(super) attempt: u16,
}

/// What a plugin said, and under which configuration.
struct Answer {
    says: CheckAnswer,
    judged: Judged,
}

/// Asks, and does what the answer says.
pub(super) async fn ask(parts: &ShardParts, question: &Question) {
    let id = question.transaction.place.transaction(parts.port.id());
    for _ in 0..=limits::STALE_RETRIES_MAX {
        let answer = match judge(parts, question).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return,
            Err(words) => {
                tracing::warn!(transaction.id = %id, check.attempt = question.attempt, words, "a check has no verdict");
                return;
            }
        };
        match carry_out(parts, question, answer).await {
            Ok(Resolved::Done(_)) => return,
            // Asked under a configuration that is over: once more.
            Ok(Resolved::Stale) => {}
            // Its producer was first, with another word.
            Err(Error::TransactionResolved(_) | Error::TransactionNotFound) => return,
            Err(error) => {
                tracing::warn!(transaction.id = %id, %error, "a plugin's verdict was not written");
                return;
            }
        }
    }
}

async fn carry_out(parts: &ShardParts, question: &Question, answer: Answer) -> Result<Resolved, Error> {
    let verdict = match answer.says {
        CheckAnswer::Commit => TransactionVerdict::Commit,
        CheckAnswer::Rollback => TransactionVerdict::Rollback,
        CheckAnswer::Unknown { after_ms: Some(after_ms) } => return wait(parts, question, after_ms).await,
        CheckAnswer::Unknown { after_ms: None } | CheckAnswer::Ask(_) => {
            return Ok(Resolved::Done(question.transaction.state));
        }
    };
    let says = Says { verdict, by: ResolvedBy::Plugin(answer.judged) };
    let deadline = crate::call::now() + Duration::from_millis(limits::TIMEOUT_MS_DEFAULT);
    resolve(parts, question.tenant, question.transaction.id(), says, deadline).await
}

/// The same check with another wait until the next.
async fn wait(parts: &ShardParts, question: &Question, after_ms: u64) -> Result<Resolved, Error> {
    let (tenant, attempt) = (question.tenant, question.attempt);
    let wait_ms = after_ms.clamp(1, limits::CHECK_INTERVAL_MS_MAX);
    let checked = TransactionChecked { transaction: question.transaction.id(), attempt, wait_ms };
    let term = parts.port.leadership().ok_or(Error::NoLeader)?;
    let deadline = crate::call::now() + Duration::from_millis(limits::TIMEOUT_MS_DEFAULT);
    let request = Request { tenant, term, deadline, ack: Durability::Quorum };
    let header = Header { kind: kind::TRANSACTION_CHECKED, tenant, ..Header::default() };
    let ticket = parts.batcher.submit(request, 0, |writer| writer.write(&header, &checked, &[]))?;
    // Refused if it was ended meanwhile, or the next check is under way: then this word counts no more.
    parts.batcher.wait(ticket, deadline).await?;
    Ok(Resolved::Done(question.transaction.state))
}

/// What the plugin says; `None` if the topic has none any more.
async fn judge(parts: &ShardParts, question: &Question) -> Result<Option<Answer>, String> {
    let topic = TopicId(question.transaction.topic);
    let bound = {
        let state = parts.port.state();
        let generation = state.topics.get(&topic).map(|topic| topic.generation);
        state.check_back(topic).cloned().zip(generation)
    };
    let Some((binding, generation)) = bound else { return Ok(None) };
    let judged = Judged { binding: binding.id.0, generation: generation.0 };
    let judge = parts.bench.judge(&parts.port, &binding).await?;
    let half = half(parts, question).map_err(|error| error.to_string())?;
    let verdict = judge.check_back(half.clone(), question.attempt).await;
    let says = converse(parts, &binding, &*judge, half, verdict).await?;
    Ok(Some(Answer { says, judged }))
}

/// Makes the requests that the plugin names, until it has said something else.
async fn converse(
    parts: &ShardParts,
    binding: &Binding,
    judge: &dyn Judge,
    half: Half,
    mut verdict: Verdict<CheckAnswer>,
) -> Result<CheckAnswer, String> {
    for _ in 0..limits::CHECK_REQUESTS_MAX {
        let request = match verdict {
            Verdict::Answer(CheckAnswer::Ask(request)) => request,
            Verdict::Answer(answer) => return Ok(answer),
            Verdict::Failed(words) => return Err(words),
            Verdict::Stopped(failure) => return Err(format!("stopped: {}", failure.as_str())),
        };
        let response = match allow_list(&binding.config.config) {
            Ok(allow) => parts.checks.outside().ask(request, allow).await,
            Err(words) => CheckResponse::Failed(words),
        };
        let half = Half { now: parts.port.now(), ..half.clone() };
        verdict = judge.check_answer(half, response).await;
    }
    match verdict {
        Verdict::Answer(CheckAnswer::Ask(_)) => Err("asks for more requests than one check may make".into()),
        Verdict::Answer(answer) => Ok(answer),
        Verdict::Failed(words) => Err(words),
        Verdict::Stopped(failure) => Err(format!("stopped: {}", failure.as_str())),
    }
}

/// `allow` of a binding's config: the hosts that its plugin may name. Without one it may name none.
fn allow_list(config: &[u8]) -> Result<Vec<String>, String> {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default)]
        allow: Vec<String>,
    }

    let config = if config.is_empty() { b"{}" } else { config };
    let config: Config =
        serde_json::from_slice(config).map_err(|error| format!("no allow-list in the config: {error}"))?;
    Ok(config.allow)
}

/// The transaction as a plugin sees it: by its first message.
fn half(parts: &ShardParts, question: &Question) -> Result<Half, Error> {
    let Question { tenant, transaction, .. } = question;
    let name = |topic: TopicId| {
        let state = parts.port.state();
        state.topics.get(&topic).map_or_else(String::new, |topic| topic.name.to_string())
    };
    let mut half = Half {
        transaction: transaction.place.transaction(parts.port.id()).to_string(),
        producer_group: transaction.producer_group.clone(),
        prepared_at: Timestamp(transaction.prepared_at),
        now: parts.port.now(),
        messages: transaction.parts,
        topic: name(TopicId(transaction.topic)),
        ..Half::default()
    };
    let all = parts.port.transaction_parts(*tenant, transaction)?;
    let Some(Part::Parked(first)) = all.into_iter().next() else { return Ok(half) };
    let record = parts.port.record(&first.entry())?;
    let head: PublishHead<'_> = head(&record.head)?;
    half.topic = name(record.header.topic);
    half.tag = head.tag.map(Into::into);
    half.keys = head.keys.iter().map(|key| (*key).into()).collect();
    half.ordering_key = head.ordering_key.map(Into::into);
    half.properties = head.properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    half.content_type = head.content_type.map(Into::into);
    half.body = record.body.clone();
    Ok(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_config_lists_is_allowed() {
        assert_eq!(allow_list(b""), Ok(vec![]));
        assert_eq!(allow_list(br#"{"url":"https://a/"}"#), Ok(vec![]));
        assert_eq!(allow_list(br#"{"url":"https://a/","allow":["a:443"]}"#), Ok(vec!["a:443".to_owned()]));
        assert!(allow_list(br#"{"allow":"a"}"#).is_err());
    }
}
