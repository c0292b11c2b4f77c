//! The hand-written results against the type of the contract.

use pointsman_api_types::publish::PublishResult;
use pointsman_broker::view::PublishTarget;
use pointsman_model::{LogIndex, MessageId, Ordinal, QueueId, QueueOffset, ShardId, Term, Timestamp};

use super::*;

fn check(result: Result<PublishReceipt, Error>) {
    let mut out = Vec::new();
    write_result(&mut out, 3, result.map_err(Failure::from)).expect("writes");
    let typed: PublishResult = serde_json::from_slice(&out).expect("the contract's type");
    assert_eq!(serde_json::to_string(&typed).expect("encodes"), String::from_utf8(out).expect("UTF-8"));
}

#[test]
fn results_are_of_the_contract() {
    let id = MessageId { shard: ShardId(1), term: Term(2), index: LogIndex(3), ordinal: Ordinal(4) };
    let full = PublishReceipt {
        id: Some(id),
        topic: "orders".into(),
        queue: Some(QueueId(1)),
        offset: Some(QueueOffset(7)),
        stored_at: Some(Timestamp(1)),
        deliver_at: None,
        durability: Durability::Quorum,
        duplicate: Some(false),
        targets: Vec::new(),
    };
    check(Ok(full.clone()));
    let target = |queue| PublishTarget { topic: "a".into(), queue: QueueId(queue), offset: Some(QueueOffset(0)) };
    check(Ok(PublishReceipt { targets: vec![target(0), target(1)], ..full.clone() }));
    let waits = PublishReceipt { queue: None, offset: None, stored_at: None, ..full.clone() };
    check(Ok(PublishReceipt { deliver_at: Some(Timestamp(9)), ..waits }));
    check(Ok(PublishReceipt { duplicate: Some(true), ..full.clone() }));
    let early = PublishReceipt { offset: None, stored_at: None, duplicate: None, ..full };
    check(Ok(PublishReceipt { id: None, durability: Durability::Leader, ..early }));
    check(Err(Error::MessageTooLarge { limit: 5 }));
    check(Err(Error::OffsetExpired { earliest: 5 }));
}
