//! The other judgements: what is the same, when to try again, and what became of a transaction that fell silent.
//!
//! Orders are published twice, shipped by a consumer that fails now and then, and paid in transactions, half of whose
//! producers never say how they ended. Each plugin's effect is counted and compared with what the orders themselves say.

mod ledger;
mod told;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pointsman_api_types::Time;
use pointsman_client::{Request, Tenant};
use serde_json::{Value, json};

use super::{LEASE_MESSAGES, LEASE_WAIT_MS, VERSION, example};
use crate::commands::Failure;
use ledger::Ledger;
pub(super) use told::Judgements;

const ORDERS: &str = "orders";
const PAYMENTS: &str = "payments";
const SHIPPING: &str = "shipping";
const REMINDERS: &str = "reminders";
/// Plugins of this act: dedup, retry, check-back.
const DEDUP: &str = "once-per-order";
const RETRY: &str = "give-up-on-fatal";
const CHECK_BACK: &str = "ask-ledger";
/// Orders published; every second one twice.
const ORDER_COUNT: u64 = 200;
/// Of so many orders, one cannot be shipped at all, and one not at first.
const FATAL_EVERY: u64 = 20;
const PASSING_EVERY: u64 = 10;
/// Transactions; every second one is left silent by its producer.
const TRANSACTION_COUNT: u64 = 40;
/// Of so many payments, the ledger has settled one; the others it has cancelled.
const SETTLED_EVERY: u64 = 4;
const DELAY_MS: u64 = 250;
/// Longest wait for anything of this act.
const PATIENCE: Duration = Duration::from_secs(15);

/// Plugins uploaded, topics, group and bindings made; then each act.
pub(super) async fn run(tenant: &Tenant) -> Result<Judgements, Failure> {
    let ledger = Ledger::start(is_settled).await?;
    set_up(tenant, &ledger).await?;
    let mut shown = Judgements::default();
    publish_twice(tenant, &mut shown).await?;
    delay(tenant).await?;
    ship(tenant, &mut shown).await?;
    redrive(tenant, &mut shown).await?;
    transact(tenant, &mut shown).await?;
    if let Some(late_ms) = wait_for_delayed(tenant).await? {
        (shown.delayed, shown.late_ms) = (1, late_ms);
    }
    Ok(shown)
}

async fn set_up(tenant: &Tenant, ledger: &Ledger) -> Result<(), Failure> {
    for name in [DEDUP, RETRY, CHECK_BACK] {
        tenant.upload_plugin(name, VERSION, Bytes::from_static(example(name)?.bytes)).await?;
    }
    put(tenant, &["topics", ORDERS], &json!({})).await?;
    put(tenant, &["topics", PAYMENTS], &json!({})).await?;
    put(tenant, &["groups", SHIPPING], &json!({"topics": [{"topic": ORDERS}], "start": "earliest"})).await?;
    let bindings = [
        json!({"slot": "dedup", "topic": ORDERS, "plugin": DEDUP, "version": VERSION}),
        json!({"slot": "retry", "group": SHIPPING, "plugin": RETRY, "version": VERSION,
            "config": {"first_ms": 20}}),
        json!({"slot": "check-back", "topic": PAYMENTS, "plugin": CHECK_BACK, "version": VERSION,
            "config": {"ledger": ledger.url(), "allow": [ledger.address()]}}),
    ];
    for (name, binding) in [DEDUP, RETRY, CHECK_BACK].into_iter().zip(bindings) {
        put(tenant, &["bindings", name], &binding).await?;
    }
    Ok(())
}

/// Every order, and every second one again, as after an answer that was lost.
async fn publish_twice(tenant: &Tenant, shown: &mut Judgements) -> Result<(), Failure> {
    let order = |n: u64| json!({"data": {"order": n}, "tag": "placed", "properties": {"order": n.to_string()}});
    let all: Vec<Value> = (0..ORDER_COUNT).map(order).collect();
    let again: Vec<Value> = (0..ORDER_COUNT).step_by(2).map(order).collect();
    for messages in [all, again] {
        let path = tenant.path(&["topics", ORDERS, "messages"]);
        let body = json!({ "messages": messages }).to_string();
        let request = Request::post(path).body("application/vnd.pointsman.batch+json", body);
        let answer: Value = tenant.client().send(request).await?.json()?;
        for result in answer["results"].as_array().into_iter().flatten() {
            match result["duplicate"].as_bool() {
                Some(true) => shown.duplicates += 1,
                _ => shown.stored += 1,
            }
        }
    }
    Ok(())
}

/// Ships what it can. Some orders fail at first, some for good, as their consumer says.
async fn ship(tenant: &Tenant, shown: &mut Judgements) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut left: BTreeSet<u64> = (0..ORDER_COUNT).collect();
    while !left.is_empty() && begun.elapsed() < PATIENCE {
        let mut items = Vec::new();
        for lease in leases(tenant, SHIPPING, LEASE_WAIT_MS).await? {
            let Some(order) = lease["message"]["data"]["order"].as_u64() else { continue };
            let first = lease["attempt"] == 1;
            let receipt = &lease["receipt"];
            if is_fatal(order) {
                left.remove(&order);
                items.push(json!({"receipt": receipt, "op": "nack", "reason": "fatal: no such address"}));
            } else if is_passing(order) && first {
                items.push(json!({"receipt": receipt, "op": "nack", "reason": "the carrier did not answer"}));
            } else {
                left.remove(&order);
                shown.shipped += u64::from(first);
                shown.shipped_later += u64::from(!first);
                items.push(json!({"receipt": receipt, "op": "ack"}));
            }
        }
        settle(tenant, items).await?;
    }
    let dead: Value = get(tenant, &["groups", SHIPPING, "dlq"]).await?;
    shown.dead = dead["items"].as_array().map_or(0, Vec::len) as u64;
    Ok(())
}

/// Gives the dead letters to the group again; somebody corrected the addresses.
async fn redrive(tenant: &Tenant, shown: &mut Judgements) -> Result<(), Failure> {
    post(tenant, &["groups", SHIPPING, "dlq", "redrive"], &json!({"to": "group"})).await?;
    let begun = Instant::now();
    while shown.redriven < shown.dead && begun.elapsed() < PATIENCE {
        let leased = leases(tenant, SHIPPING, LEASE_WAIT_MS).await?;
        shown.redriven += leased.len() as u64;
        settle(tenant, leased.iter().map(|lease| json!({"receipt": lease["receipt"], "op": "ack"})).collect()).await?;
    }
    Ok(())
}

/// Payments in transactions. Of every second one the producer says no more.
async fn transact(tenant: &Tenant, shown: &mut Judgements) -> Result<(), Failure> {
    let mut silent = Vec::new();
    for n in 0..TRANSACTION_COUNT {
        let body = json!({"messages": [{"data": {"payment": n}, "properties": {"payment": n.to_string()}}],
            "check": {"after_ms": 50, "interval_ms": 100, "max": 15}});
        let path = tenant.path(&["topics", PAYMENTS, "transactions"]);
        let request = Request::post(path).body("application/vnd.pointsman.transaction+json", body.to_string());
        let prepared: Value = tenant.client().send(request).await?.json()?;
        let Some(transaction) = prepared["transaction"].as_str() else {
            return Err(Failure::Refused("a transaction without an id".into()));
        };
        if !is_silent(n) {
            post(tenant, &["transactions", transaction, "commit"], &json!({})).await?;
            shown.committed += 1;
        } else {
            silent.push(transaction.to_owned());
        }
    }
    let begun = Instant::now();
    for transaction in silent {
        loop {
            let now: Value = get(tenant, &["transactions", &transaction]).await?;
            match now["state"].as_str() {
                Some("committed") => shown.committed_by_plugin += 1,
                Some("rolled-back") => shown.rolled_back_by_plugin += 1,
                _ if begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                _ => {}
            }
            break;
        }
    }
    let queues: Value = get(tenant, &["topics", PAYMENTS, "queues"]).await?;
    let latest = |queue: &Value| queue["latest"].as_str().and_then(|latest| latest.parse::<u64>().ok());
    shown.payments = queues["items"].as_array().into_iter().flatten().filter_map(latest).sum();
    Ok(())
}

/// Publishes a message that nobody gets yet; gives when it is due.
async fn delay(tenant: &Tenant) -> Result<(), Failure> {
    put(tenant, &["topics", REMINDERS], &json!({"queues": 1})).await?;
    put(tenant, &["groups", REMINDERS], &json!({"topics": [{"topic": REMINDERS}], "start": "earliest"})).await?;
    let body = json!({"messages": [{"data": "pay", "delay_ms": DELAY_MS}]}).to_string();
    let path = tenant.path(&["topics", REMINDERS, "messages"]);
    let request = Request::post(path).body("application/vnd.pointsman.batch+json", body);
    tenant.client().send(request).await?.ok()?;
    Ok(())
}

/// Waits for the delayed message: how much later than asked for it was stored.
async fn wait_for_delayed(tenant: &Tenant) -> Result<Option<u64>, Failure> {
    let leased = leases(tenant, REMINDERS, PATIENCE.as_millis() as u64).await?;
    let stored = leased.first().and_then(|lease| lease["message"]["stored_at"].as_str());
    let born = leased.first().and_then(|lease| lease["message"]["born_at"].as_str());
    Ok(stored.zip(born).and_then(|(stored, born)| {
        let ms = |text: &str| serde_json::from_value::<Time>(Value::from(text)).ok();
        Some((ms(stored)?.0).saturating_sub(ms(born)?.0).saturating_sub(DELAY_MS))
    }))
}

/// An order that no attempt will ship.
fn is_fatal(order: u64) -> bool {
    order % FATAL_EVERY == 1
}

/// An order that the second attempt ships.
fn is_passing(order: u64) -> bool {
    order % PASSING_EVERY == 2
}

/// A payment whose producer says no more after it is prepared.
fn is_silent(payment: u64) -> bool {
    payment.is_multiple_of(2)
}

/// Whether the ledger has settled a payment.
fn is_settled(payment: u64) -> bool {
    payment.is_multiple_of(SETTLED_EVERY)
}

async fn leases(tenant: &Tenant, group: &str, wait_ms: u64) -> Result<Vec<Value>, Failure> {
    let body = json!({"max_messages": LEASE_MESSAGES, "wait_ms": wait_ms});
    let mut answer = post(tenant, &["groups", group, "leases"], &body).await?;
    match answer["leases"].take() {
        Value::Array(leases) => Ok(leases),
        _ => Err(Failure::Refused("a lease answer without leases".into())),
    }
}

async fn settle(tenant: &Tenant, items: Vec<Value>) -> Result<(), Failure> {
    if !items.is_empty() {
        post(tenant, &["groups", SHIPPING, "settle"], &json!({ "items": items })).await?;
    }
    Ok(())
}

async fn get(tenant: &Tenant, path: &[&str]) -> Result<Value, Failure> {
    Ok(tenant.client().send(Request::get(tenant.path(path))).await?.json()?)
}

async fn put(tenant: &Tenant, path: &[&str], body: &Value) -> Result<(), Failure> {
    tenant.client().send(Request::put(tenant.path(path)).json(body)).await?.ok()?;
    Ok(())
}

async fn post(tenant: &Tenant, path: &[&str], body: &Value) -> Result<Value, Failure> {
    Ok(tenant.client().send(Request::post(tenant.path(path)).json(body)).await?.json()?)
}
