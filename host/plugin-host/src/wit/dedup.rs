//! World `dedup`.

use pointsman_model::judge::{Column, DedupKey, Failure, Kind, Plan, Verdict};
use pointsman_model::limits;
use wasmtime::component::{ComponentType, Lift};

use super::columns::{Columnar, lay_failures};
use super::types;

/// World `dedup`: names the key under which a message is the same as another.
pub(crate) struct Dedup;

/// `record dedup-answer`.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct DedupAnswer {
    keys: types::Column,
    #[component(name = "ttl-ms")]
    ttl_ms: Vec<u32>,
    failures: Vec<(u32, String)>,
}

impl Columnar for Dedup {
    type Answer = DedupAnswer;
    type Decision = Option<DedupKey>;

    const KIND: Kind = Kind::Dedup;

    fn verdicts(answer: DedupAnswer, n: usize, _: &Plan) -> Result<Vec<Verdict<Option<DedupKey>>>, Failure> {
        let keys = Column { ends: answer.keys.ends, bytes: answer.keys.bytes };
        if keys.ends.len() != n || answer.ttl_ms.len() != n {
            return Err(Failure::Output);
        }
        let mut end = 0;
        let mut verdicts = Vec::with_capacity(n);
        for (i, ttl_ms) in answer.ttl_ms.into_iter().enumerate() {
            let start = end;
            end = keys.ends[i] & !pointsman_model::judge::ABSENT;
            let key = match keys.get(i) {
                Some(key) => Some(read_key(key, ttl_ms).ok_or(Failure::Output)?),
                // An absent key has no bytes; one outside of the column is absent to `get` too, and wrong.
                None if keys.ends[i] != end && start == end => None,
                None => return Err(Failure::Output),
            };
            verdicts.push(Verdict::Answer(key));
        }
        if end as usize != keys.bytes.len() {
            return Err(Failure::Output);
        }
        lay_failures(&mut verdicts, answer.failures)?;
        Ok(verdicts)
    }
}

fn read_key(key: &[u8], ttl_ms: u32) -> Option<DedupKey> {
    let fits =
        (1..=limits::DEDUP_KEY_BYTES_MAX).contains(&key.len()) && u64::from(ttl_ms) <= limits::DEDUP_WINDOW_MS_MAX;
    let key = std::str::from_utf8(key).ok().filter(|_| fits)?;
    Some(DedupKey { key: key.to_owned(), ttl_ms: (ttl_ms > 0).then_some(ttl_ms) })
}
