//! After the load: the same from every node, and exactly what was acknowledged.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::consume::Group;
use super::ledger::{Fate, Ledger, Place, TOPICS, Wrong};
use super::nodes::{Cluster, NODES};
use super::whole::number;
use crate::server::T;

/// How long a node may be behind.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Reads every queue from every node and compares all of it with what the clients know.
pub(crate) fn everything(cluster: &Cluster, ledger: &Ledger) {
    let mut stored = 0;
    for (topic, name) in TOPICS.iter().enumerate() {
        let queues = cluster.get(1, &format!("{T}/topics/{name}/queues")).expect(200);
        for (queue, item) in queues["items"].as_array().expect("items").iter().enumerate() {
            let latest = number(&item["latest"]).expect("latest");
            stored += latest;
            for node in NODES {
                read(cluster, ledger, node, (topic, queue as u64, latest));
            }
        }
    }
    promises(ledger, stored);
    explain(cluster, ledger);
}

/// What the broker itself says of messages that were never settled.
fn explain(cluster: &Cluster, ledger: &Ledger) {
    let state = ledger.state();
    let unsettled = state.wrong.iter().filter_map(|(.., words)| words.split_once(" was never settled by "));
    for (name, group) in unsettled.take(4) {
        let Some((place, (id, _))) = state.seen.iter().find(|(_, (_, seen))| seen == name) else { continue };
        let explained = cluster.get(1, &format!("{T}/messages/{id}/explain?group={group}"));
        let leases = state.leases.get(&(group.to_owned(), name.to_owned()));
        eprintln!("{name} at {place:?}, leased {leases:?}: {explained}");
        let lag = cluster.get(1, &format!("{T}/groups/{group}/lag"));
        eprintln!("lag of {group}: {lag}");
    }
}

/// Every message of a queue, as one node has it.
fn read(cluster: &Cluster, ledger: &Ledger, node: u32, (topic, queue, latest): Place) {
    let (start, mut next) = (Instant::now(), 0);
    while next < latest {
        let path = format!("{T}/topics/{}/messages?queue={queue}&offset={next}&limit=1000", TOPICS[topic]);
        let page = cluster.get(node, &path).expect(200);
        let items = page["items"].as_array().expect("items");
        for item in items {
            let (name, place) = ledger.sight(item, &format!("node {node}"));
            if place != (topic, queue, next) {
                ledger.wrong(Wrong::Different, format!("node {node}: {name} at {place:?}, next was {next}"));
            }
            next += 1;
        }
        if items.is_empty() {
            assert!(start.elapsed() < CATCH_UP, "node {node} ends at {next} of {latest} in queue {queue}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What was acknowledged is there where the answer said, in its producer's order, and was delivered.
fn promises(ledger: &Ledger, stored: u64) {
    let mut state = ledger.state();
    let mut found = Vec::new();
    if state.seen.len() as u64 != stored {
        found.push((Wrong::Phantom, 0, format!("{} places were seen and {stored} are stored", state.seen.len())));
    }
    let by_name: HashMap<&str, Place> = state.seen.iter().map(|(place, (_, name))| (name.as_str(), *place)).collect();
    for (name, message) in &state.messages {
        let place = by_name.get(name.as_str()).copied();
        let wrong = match (message.fate, place) {
            (Fate::Acknowledged, None) => Some(Wrong::Lost),
            (Fate::Acknowledged, place) if place != message.place => Some(Wrong::Different),
            (Fate::Refused, Some(_)) => Some(Wrong::Phantom),
            (Fate::Hidden, Some(_)) => Some(Wrong::Early),
            _ => None,
        };
        let words = || format!("{name}: {:?} at {:?}, found at {place:?}", message.fate, message.place);
        found.extend(wrong.map(|wrong| (wrong, message.period, words())));
        let Some((topic, ..)) = place else { continue };
        for group in Group::ALL.into_iter().filter(|group| *group == Group::Workers || topic == 0) {
            if !state.settled.contains_key(&(group.name(), name.clone())) {
                found.push((Wrong::Lost, message.period, format!("{name} was never settled by {}", group.name())));
            }
        }
    }
    let mut last: HashMap<(usize, u64, &str), u64> = HashMap::new();
    let mut places: Vec<(&Place, &str)> = state.seen.iter().map(|(place, (_, name))| (place, name.as_str())).collect();
    places.sort_unstable();
    for ((topic, queue, offset), name) in places {
        // A publish of unknown outcome may arrive late; what is repeated until it is known may not.
        let Some((producer, n)) = name.strip_prefix("k-").and_then(|rest| rest.split_once('-')) else { continue };
        let n = n.parse().expect("a number");
        if last.insert((*topic, *queue, producer), n).is_some_and(|before| before >= n) {
            let period = state.messages[name].period;
            found.push((Wrong::Reordered, period, format!("{name} at {topic} {queue} {offset}")));
        }
    }
    state.wrong.extend(found);
}

/// The checks must be able to fail: each contradiction is told, and an honest run has none.
#[test]
fn every_contradiction_is_told() {
    use serde_json::json;

    use super::ledger::body_of;

    let shown = |name: &str, id: &str, offset: u64| json!({"topic": "stock", "queue": 0, "offset": offset.to_string(), "id": id, "data": body_of(name)});
    let check = |notes: &[(&str, Fate, u64)], sights: &[(&str, &str, u64)], expected: &[Wrong]| {
        let ledger = Ledger::default();
        ledger.begin("test", Instant::now());
        for (name, fate, offset) in notes {
            ledger.note(name, *fate, (*fate == Fate::Acknowledged).then_some((1, 0, *offset)));
        }
        for (name, id, offset) in sights {
            ledger.sight(&shown(name, id, *offset), "test");
            ledger.state().settled.insert((Group::Workers.name(), (*name).to_owned()), Instant::now());
        }
        let stored = ledger.state().seen.len() as u64;
        promises(&ledger, stored);
        let found: Vec<Wrong> = ledger.state().wrong.iter().map(|(wrong, ..)| *wrong).collect();
        assert_eq!(found, expected, "{notes:?} {sights:?}");
    };
    let (sent, acknowledged) = (Fate::Sent, Fate::Acknowledged);
    check(&[("k-0-0", acknowledged, 0), ("k-0-1", sent, 0)], &[("k-0-0", "a", 0)], &[]);
    check(&[("k-0-0", sent, 0)], &[("k-0-0", "a", 0), ("k-0-0", "a", 0)], &[]);
    check(&[("k-0-0", acknowledged, 0)], &[], &[Wrong::Lost]);
    check(&[("k-0-0", acknowledged, 1)], &[("k-0-0", "a", 0)], &[Wrong::Different]);
    check(&[("k-0-0", sent, 0)], &[("k-0-0", "a", 0), ("k-0-0", "b", 0)], &[Wrong::Different]);
    check(&[("k-0-0", sent, 0)], &[("k-0-0", "a", 0), ("k-0-0", "b", 1)], &[Wrong::Doubled, Wrong::Reordered]);
    check(&[("o-0-0", Fate::Refused, 0)], &[("o-0-0", "a", 0)], &[Wrong::Phantom, Wrong::Phantom]);
    check(&[], &[("o-0-0", "a", 0)], &[Wrong::Phantom]);
    check(&[("t-0-0-0", Fate::Hidden, 0)], &[("t-0-0-0", "a", 0)], &[Wrong::Early, Wrong::Early]);
    check(&[("t-0-0-0", Fate::Committing, 0)], &[("t-0-0-0", "a", 0)], &[]);
    let two = [("k-0-0", sent, 0), ("k-0-1", sent, 0)];
    check(&two, &[("k-0-1", "b", 0), ("k-0-0", "a", 1)], &[Wrong::Reordered]);
}
