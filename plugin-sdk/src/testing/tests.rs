//! Views, bitmaps and routes as a plugin's author meets them.

use super::*;
use crate::{Message, Route};

/// Reads every field and keeps what it read in the reason of a failure.
struct Reader;

impl Filter for Reader {
    fn new(_config: &[u8]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        let plan = Plan::new().topic().tag().keys().ordering_key().property("a").property("b").body();
        plan.body_hash().born_at().stored_at().now().seed().priority().tag()
    }

    fn accept(&self, m: &Message<'_>) -> bool {
        let keys: Vec<_> = m.keys().collect();
        let texts = (m.topic(), m.tag(), keys, m.ordering_key(), m.property("a"), m.property("b"), m.body());
        let numbers = (m.body_hash(), m.born_at(), m.stored_at(), m.now(), m.seed(), m.priority());
        m.fail(format!("{texts:?} {numbers:?}"))
    }
}

#[test]
fn every_field_reads_back() {
    let full = Sample::new().topic("orders").tag("päid").key("k1").key("").ordering_key("o").property("b", "2");
    let full = full.body(&[0xff]).body_hash(u128::MAX).time_ms(5).seed(6).priority(9);
    let read = accepts(&Reader, &full).expect_err("it fails every message");
    let max = u128::MAX;
    let numbers = format!("({max}, 5, Some(5), 5, 6, 9)");
    assert_eq!(read, format!(r#"("orders", Some("päid"), ["k1", ""], Some("o"), None, Some("2"), [255]) {numbers}"#));
    let read = accepts(&Reader, &Sample::new()).expect_err("it fails every message");
    assert_eq!(read, r#"("", None, [], None, None, None, []) (0, 0, Some(0), 0, 0, 0)"#);
}

#[test]
fn asking_twice_is_one_column() {
    assert_eq!(Reader.plan().fields.iter().filter(|field| **field == Field::Tag).count(), 1);
}

struct Third;

impl Filter for Third {
    fn new(_config: &[u8]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::new().seed()
    }

    fn accept(&self, message: &Message<'_>) -> bool {
        message.seed().is_multiple_of(3)
    }
}

#[test]
fn bitmaps_of_every_length() {
    for n in 0..40_usize {
        let samples: Vec<_> = (0..n as u64).map(|seed| Sample::new().seed(seed)).collect();
        let columns = Sample::columns(&samples.iter().collect::<Vec<_>>(), &Third.plan());
        let (bits, failures) = crate::filter::evaluate(&Third, &Third.plan(), n, &columns);
        assert_eq!((bits.len(), failures.len()), (n.div_ceil(8), 0));
        for i in 0..bits.len() * 8 {
            assert_eq!(bits[i / 8] >> (i % 8) & 1 == 1, i < n && i % 3 == 0, "message {i} of {n}");
        }
    }
}

#[test]
#[should_panic = "the plan does not ask for"]
fn a_field_outside_the_plan_stops_the_plugin() {
    struct Sloppy;
    impl Filter for Sloppy {
        fn new(_config: &[u8]) -> Result<Self, String> {
            Ok(Self)
        }
        fn plan(&self) -> Plan {
            Plan::new()
        }
        fn accept(&self, message: &Message<'_>) -> bool {
            message.tag().is_some()
        }
    }
    let _ = accepts(&Sloppy, &Sample::new());
}

struct Router;

impl Selector for Router {
    fn new(_config: &[u8]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::new().tag().destination("audit")
    }

    fn select(&self, message: &Message<'_>, context: &Context) -> Route {
        match message.tag() {
            Some("both") => Route::queue(2).and(Route::to(1, 7)),
            Some("slot") => Route::by_slot(),
            Some(tag) => context.by_hash(tag.as_bytes()),
            None => Route::nowhere(),
        }
    }
}

#[test]
fn routes() {
    let of = |sample: Sample| selects(&Router, &sample, 4).expect("it fails none");
    assert_eq!(of(Sample::new().tag("both")), [(0, 2), (1, 7)]);
    assert_eq!(of(Sample::new().tag("slot")), [(0, 0xFFFF)]);
    assert_eq!(of(Sample::new()), []);
    let queue = (crate::hash(b"x") % 4) as u16;
    assert_eq!(of(Sample::new().tag("x")), [(0, queue)]);
}

struct ByTag;

impl Dedup for ByTag {
    fn new(_config: &[u8]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::new().tag()
    }

    fn key(&self, message: &Message<'_>) -> Option<Key> {
        match message.tag()? {
            "odd" => message.fail("an odd one"),
            "long" => Some(Key::new("x".repeat(257))),
            "full" => Some(Key::new("x".repeat(256))),
            "empty" => Some(Key::new("")),
            "short" => Some(Key::new("s").remembered_for(Duration::from_secs(3))),
            tag => Some(Key::new(tag)),
        }
    }
}

#[test]
fn keys_of_a_batch_lie_one_after_another() {
    let tags = [Some("a"), None, Some("odd"), Some("long"), Some("short"), Some("empty"), Some("bc")];
    let samples = tags.map(|tag| tag.map_or(Sample::new(), |tag| Sample::new().tag(tag)));
    let columns = Sample::columns(&samples.iter().collect::<Vec<_>>(), &ByTag.plan());
    let (ends, bytes, times, failures) = crate::dedup::evaluate(&ByTag, &ByTag.plan(), tags.len(), &columns);
    assert_eq!(ends, [1, 1 | ABSENT, 1 | ABSENT, 1 | ABSENT, 2, 2 | ABSENT, 4]);
    assert_eq!((&bytes[..], &times[..]), (&b"asbc"[..], &[0, 0, 0, 0, 3_000, 0, 0][..]));
    let reasons: Vec<_> = failures.iter().map(|(at, reason)| (*at, reason.as_str())).collect();
    let length = |bytes| format!("a key of {bytes} bytes, and not of 1 to 256");
    assert_eq!(reasons, [(2, "an odd one"), (3, length(257).as_str()), (5, length(0).as_str())]);
}

#[test]
fn a_key_of_one_message() {
    let of = |tag: &str| keys(&ByTag, &Sample::new().tag(tag));
    assert_eq!(of("a"), Ok(Some(Key::new("a"))));
    assert_eq!(keys(&ByTag, &Sample::new()), Ok(None));
    assert_eq!(of("odd"), Err("an odd one".to_owned()));
    assert_eq!(of("full").map(|key| key.map(|key| key.text().len())), Ok(Some(256)));
    assert_eq!(of("short").map(|key| key.and_then(|key| key.time())), Ok(Some(Duration::from_secs(3))));
}
