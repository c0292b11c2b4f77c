//! How leases end, and receipts.

use pointsman_model::limits;

use crate::Error;
use crate::testing::fixture::{TENANT, bodies, call};
use crate::view::{SettleOp, SettleRequest, SettleStatus};

use super::{item, one_topic};

#[tokio::test]
async fn extend_moves_the_end_up_to_twelve_hours() {
    let f = one_topic(&["a"]).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.pass(20_000).await;
    let extend = |ms| SettleRequest { lease_ms: Some(ms), ..item(&lease.receipt, SettleOp::Extend) };
    let results = f.broker.settle(&call(), TENANT, "g", vec![extend(60_000)]).await.unwrap();
    assert_eq!(results[0].status, SettleStatus::Extended);
    assert_eq!(results[0].expires_at.unwrap().0, 1_700_000_000_000 + 80_000);
    f.pass(59_999).await;
    assert!(f.lease("g", 1).await.is_empty());
    let results = f.broker.settle(&call(), TENANT, "g", vec![extend(limits::LEASE_MS_MAX)]).await.unwrap();
    assert_eq!(results[0].expires_at.unwrap().0, 1_700_000_000_000 + limits::LEASE_MS_MAX, "12 h in all");
    f.pass(limits::LEASE_MS_MAX).await;
    assert_eq!(f.settle_with("g", extend(1_000)).await, SettleStatus::LeaseExpired);
}

#[tokio::test]
async fn release_gives_back_at_once_or_later_and_is_not_counted() {
    let f = one_topic(&["a", "b"]).await;
    let lease = f.lease("g", 1).await.remove(0);
    assert_eq!(f.settle("g", &lease.receipt, SettleOp::Release).await, SettleStatus::Settled);
    let again = f.lease("g", 1).await.remove(0);
    assert_eq!((bodies(std::slice::from_ref(&again)), again.attempt), (vec!["a".to_owned()], 1), "in its old place");
    assert_eq!(
        f.settle("g", &lease.receipt, SettleOp::Ack).await,
        SettleStatus::AlreadySettled,
        "not its lease any more"
    );
    let later = SettleRequest { delay_ms: Some(1_000), ..item(&again.receipt, SettleOp::Release) };
    assert_eq!(f.settle_with("g", later).await, SettleStatus::Settled);
    assert_eq!(bodies(&f.lease("g", 9).await), ["b"]);
    f.pass(999).await;
    assert!(f.lease("g", 9).await.is_empty());
    f.pass(1).await;
    let last = f.lease("g", 9).await;
    assert_eq!((bodies(&last), last[0].attempt), (vec!["a".to_owned()], 1));
    // A retry keeps its number, too.
    f.settle_with("g", SettleRequest { delay_ms: Some(0), ..item(&last[0].receipt, SettleOp::Nack) }).await;
    let second = f.lease("g", 1).await.remove(0);
    f.settle("g", &second.receipt, SettleOp::Release).await;
    let third = f.lease("g", 1).await.remove(0);
    assert_eq!((second.attempt, third.attempt), (2, 2));
    assert_eq!(f.settle("g", &third.receipt, SettleOp::Ack).await, SettleStatus::Settled);
}

#[tokio::test]
async fn what_an_operation_does_not_take_is_refused() {
    let f = one_topic(&["a"]).await;
    let lease = f.lease("g", 1).await.remove(0);
    let with = |op, delay_ms, lease_ms, reason: Option<&str>| SettleRequest {
        receipt: lease.receipt.clone(),
        op,
        delay_ms,
        lease_ms,
        reason: reason.map(str::to_owned),
    };
    for (request, field) in [
        (with(SettleOp::Ack, Some(1), None, None), "delay_ms"),
        (with(SettleOp::Extend, Some(1), None, None), "delay_ms"),
        (with(SettleOp::Nack, Some(limits::DELAY_MS_MAX + 1), None, None), "delay_ms"),
        (with(SettleOp::Ack, None, Some(1), None), "lease_ms"),
        (with(SettleOp::Extend, None, Some(0), None), "lease_ms"),
        (with(SettleOp::Extend, None, Some(limits::LEASE_MS_MAX + 1), None), "lease_ms"),
        (with(SettleOp::Ack, None, None, Some("why")), "reason"),
        (with(SettleOp::Nack, None, None, Some(&"x".repeat(1_025))), "reason"),
    ] {
        let result = f.broker.settle(&call(), TENANT, "g", vec![request]).await;
        let expected = format!("/items/0/{field}");
        assert!(matches!(&result, Err(Error::InvalidRequest { pointer, .. }) if *pointer == expected), "{result:?}");
    }
    for (n, ok) in [(999, true), (1_000, true), (1_001, false)] {
        let items = vec![item("nonsense", SettleOp::Ack); n];
        let result = f.broker.settle(&call(), TENANT, "g", items).await;
        assert_eq!(result.is_ok(), ok, "{n}");
    }
}

#[tokio::test]
async fn a_receipt_with_any_changed_byte_is_invalid() {
    let f = one_topic(&["a"]).await;
    f.group("other", "t", None).await;
    let lease = f.lease("g", 1).await.remove(0);
    let mut forged = Vec::new();
    for at in 0..lease.receipt.len() {
        let mut text = lease.receipt.clone().into_bytes();
        text[at] = if text[at] == b'A' { b'B' } else { b'A' };
        forged.push(item(&String::from_utf8(text).unwrap(), SettleOp::Ack));
        forged.push(item(&lease.receipt[..at], SettleOp::Ack));
    }
    forged.push(item(&format!("{}A", lease.receipt), SettleOp::Ack));
    let results = f.broker.settle(&call(), TENANT, "g", forged).await.unwrap();
    assert!(results.iter().all(|result| result.status == SettleStatus::Invalid));
    assert_eq!(f.settle("other", &lease.receipt, SettleOp::Ack).await, SettleStatus::Invalid, "another group's");
    f.broker.put_tenant(&call(), "acme", crate::command::Expect::Anything).await.unwrap();
    let foreign = f.broker.settle(&call(), "acme", "g", vec![item(&lease.receipt, SettleOp::Ack)]).await;
    assert!(matches!(foreign, Err(Error::GroupNotFound(_))));
    assert_eq!(f.settle("g", &lease.receipt, SettleOp::Ack).await, SettleStatus::Settled, "the true one is good");
}

#[tokio::test]
async fn results_come_in_order_of_the_items() {
    let f = one_topic(&["a", "b", "c"]).await;
    let leases = f.lease("g", 3).await;
    let items = vec![
        item("forged", SettleOp::Ack),
        item(&leases[1].receipt, SettleOp::Ack),
        item(&leases[0].receipt, SettleOp::Extend),
        item(&leases[2].receipt, SettleOp::Nack),
        item(&leases[1].receipt, SettleOp::Ack),
    ];
    let receipts: Vec<_> = items.iter().map(|item| item.receipt.clone()).collect();
    let results = f.broker.settle(&call(), TENANT, "g", items).await.unwrap();
    let statuses: Vec<_> = results.iter().map(|result| result.status).collect();
    use SettleStatus::{AlreadySettled, Extended, Invalid, Settled};
    assert_eq!(statuses, [Invalid, Settled, Extended, Settled, AlreadySettled]);
    assert_eq!(results.into_iter().map(|result| result.receipt).collect::<Vec<_>>(), receipts);
}

#[tokio::test]
async fn a_receipt_of_the_leader_before_is_adopted() {
    let f = one_topic(&["a", "b", "c"]).await;
    let leases = f.lease("g", 3).await;
    f.shard.set_term(Some(2));
    assert_eq!(f.settle("g", &leases[0].receipt, SettleOp::Ack).await, SettleStatus::Settled);
    assert_eq!(f.settle("g", &leases[1].receipt, SettleOp::Extend).await, SettleStatus::Extended);
    let fresh = f.lease("g", 9).await;
    assert_eq!(bodies(&fresh), ["c"], "a is settled, b is adopted");
    assert_eq!(
        f.settle("g", &leases[2].receipt, SettleOp::Extend).await,
        SettleStatus::LeaseExpired,
        "somebody has it"
    );
    assert_eq!(f.settle("g", &leases[2].receipt, SettleOp::Ack).await, SettleStatus::Settled, "its attempt is current");
    assert_eq!(f.settle("g", &fresh[0].receipt, SettleOp::Ack).await, SettleStatus::AlreadySettled);
    f.shard.set_term(Some(3));
    f.pass(60_000).await;
    assert_eq!(f.settle("g", &leases[1].receipt, SettleOp::Ack).await, SettleStatus::LeaseExpired);
}

#[tokio::test]
async fn a_settle_whose_outcome_is_unknown_keeps_the_lease() {
    let f = one_topic(&["a"]).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.shard.fail_next(crate::ports::ProposeError::OutcomeUnknown);
    let result = f.broker.settle(&call(), TENANT, "g", vec![item(&lease.receipt, SettleOp::Ack)]).await;
    assert_eq!(result.unwrap_err(), Error::OutcomeUnknown);
    assert!(f.lease("g", 1).await.is_empty());
    assert_eq!(f.settle("g", &lease.receipt, SettleOp::Ack).await, SettleStatus::Settled);
}

#[tokio::test]
async fn a_message_settled_after_it_was_judged_is_not_given_out() {
    let f = one_topic(&["a", "b", "c"]).await;
    let leases = f.lease("g", 3).await;
    f.shard.set_term(Some(2));
    assert_eq!(bodies(&f.lease("g", 1).await), ["a"], "all of them are judged again");
    let nack = SettleRequest { delay_ms: Some(0), ..item(&leases[1].receipt, SettleOp::Nack) };
    assert_eq!(f.settle_with("g", nack).await, SettleStatus::Settled);
    assert_eq!(f.settle("g", &leases[2].receipt, SettleOp::Ack).await, SettleStatus::Settled);
    let rest = f.lease("g", 9).await;
    assert_eq!(rest.iter().map(|lease| lease.attempt).collect::<Vec<_>>(), [2], "b, as its second attempt, and no c");
}
