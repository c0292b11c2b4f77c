//! Which stored messages a filter passes, asked outside of delivery: by lag, redrive and explain.
//!
//! The hint is not heeded: the exact answer is the plugin's.

use std::sync::Arc;

use pointsman_model::judge::{Failure, Verdict};
use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{Name, Timestamp};
use pointsman_state_machine::command::PublishHead;

use crate::columns::{Columns, Facts, wants_body, wants_record};
use crate::error::Error;
use crate::lease::head;
use crate::ports::{Judge, Shard};

/// What a filter says of each of these messages.
///
/// # Errors
/// A failed read.
pub(crate) async fn verdicts(
    port: &Arc<dyn Shard>,
    judge: &dyn Judge,
    messages: &[(&Name, QueueEntry)],
) -> Result<Vec<Verdict<bool>>, Error> {
    let mut said = Vec::with_capacity(messages.len());
    while said.len() < messages.len() {
        let mut columns = Columns::new(judge.plan());
        let mut taken = 0;
        for (topic, entry) in &messages[said.len()..] {
            if columns.is_full() {
                break;
            }
            push(&**port, judge, &mut columns, topic, entry)?;
            taken += 1;
        }
        let (n, columns) = columns.finish();
        let mut verdicts = judge.filter(n, columns).await;
        verdicts.resize_with(taken, || Verdict::Stopped(Failure::Output));
        said.extend(verdicts);
        // A long run must not hold a worker.
        tokio::task::consume_budget().await;
    }
    Ok(said)
}

fn push(
    port: &dyn Shard,
    judge: &dyn Judge,
    columns: &mut Columns<'_>,
    topic: &Name,
    entry: &QueueEntry,
) -> Result<(), Error> {
    let record = match (wants_record(judge.plan()), wants_body(judge.plan())) {
        (false, _) => None,
        (true, false) => Some(port.record_head(entry)?),
        (true, true) => Some(port.record(entry)?),
    };
    match &record {
        Some(record) => {
            let head = head(&record.head)?;
            columns.push(&Facts::stored(topic.as_str(), entry, &head, &record.body, record.header.born));
        }
        None => {
            let head = PublishHead::default();
            columns.push(&Facts::stored(topic.as_str(), entry, &head, &[], Timestamp(0)));
        }
    }
    Ok(())
}
