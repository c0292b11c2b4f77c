//! What the demonstration should show, counted in native code beside the plugins.

use std::collections::HashMap;
use std::hint::black_box;

use pointsman_model::hash;
use serde_json::{Value, json};

use super::QUEUES;
use super::input::Event;
use super::measure::quickest_ns;

/// The filters that fit the events, and how many events pass them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expected {
    accept: Vec<String>,
    actions: Vec<String>,
    /// The tag expression of the second group; none where the events have no tags.
    pub(super) tags: Option<String>,
    /// Events that pass the custom filter.
    pub(super) triage: u64,
    /// Events that pass the tag expression.
    pub(super) tagged: u64,
}

impl Expected {
    /// The custom filter accepts the three commonest kinds of event, with the two commonest of their actions; the tag
    /// expression names the commonest kind and the fourth.
    pub(super) fn of(events: &[Event]) -> Self {
        let kinds = by_frequency(events.iter().filter_map(|event| event.tag.as_deref()));
        let tags: Vec<String> = [kinds.first(), kinds.get(3)].into_iter().flatten().cloned().collect();
        let accept: Vec<String> = kinds.into_iter().take(3).collect();
        let accepted = |event: &&Event| event.tag.as_ref().is_some_and(|tag| accept.contains(tag));
        let actions = by_frequency(events.iter().filter(accepted).filter_map(action));
        let actions: Vec<String> = actions.into_iter().take(2).collect();
        let mut expected = Self { accept, actions, tags: None, triage: 0, tagged: events.len() as u64 };
        expected.triage = events.iter().filter(|event| expected.accepts(event)).count() as u64;
        if !tags.is_empty() {
            let has = |event: &&Event| event.tag.as_ref().is_some_and(|tag| tags.contains(tag));
            expected.tagged = events.iter().filter(has).count() as u64;
            expected.tags = Some(tags.join(" || "));
        }
        expected
    }

    /// Config of the custom filter.
    pub(super) fn filter_config(&self) -> Value {
        match self.actions.is_empty() {
            true => json!({ "accept": self.accept }),
            false => json!({ "accept": self.accept, "actions": self.actions }),
        }
    }

    /// A kind of event that the custom filter accepts.
    pub(super) fn accepted_tag(&self) -> Option<&str> {
        self.accept.first().map(String::as_str)
    }

    /// What the custom filter does, natively.
    fn accepts(&self, event: &Event) -> bool {
        let Some(tag) = &event.tag else { return false };
        let by_action = || action(event).is_none_or(|action| self.actions.iter().any(|accepted| accepted == action));
        self.accept.contains(tag) && (self.actions.is_empty() || by_action())
    }

    /// Nanoseconds of one native filter decision.
    pub(super) fn native_filter_ns(&self, events: &[Event]) -> f64 {
        measure(events, |event| self.accepts(event))
    }

    /// Nanoseconds of one native selector decision.
    pub(super) fn native_selector_ns(&self, events: &[Event]) -> f64 {
        measure(events, |event| event.keys.first().map(|key| hash::hash(key.as_bytes()) % u64::from(QUEUES)))
    }
}

fn action(event: &Event) -> Option<&str> {
    event.properties.iter().find(|(name, _)| name == "action").map(|(_, value)| value.as_str())
}

/// The distinct words, the commonest first, equals by name.
fn by_frequency<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    counts.into_iter().map(|(word, _)| word.to_owned()).collect()
}

fn measure<T>(events: &[Event], decide: impl Fn(&Event) -> T) -> f64 {
    quickest_ns(events.len(), || {
        for event in events {
            black_box(decide(black_box(event)));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(tag: &str, action: &str) -> Event {
        let properties = if action.is_empty() { vec![] } else { vec![("action".to_owned(), action.to_owned())] };
        Event { tag: Some(tag.to_owned()), properties, ..Event::default() }
    }

    #[test]
    fn the_filters_are_the_commonest_and_the_counts_are_theirs() {
        let events = [
            event("push", ""),
            event("push", ""),
            event("push", ""),
            event("issues", "opened"),
            event("issues", "opened"),
            event("issues", "closed"),
            event("fork", "opened"),
            event("fork", "opened"),
            event("fork", "rare"),
            event("star", "rare"),
            event("star", "rare"),
        ];
        let expected = Expected::of(&events);
        assert_eq!(
            expected.filter_config(),
            json!({"accept": ["fork", "issues", "push"], "actions": ["opened", "closed"]})
        );
        assert_eq!(expected.triage, 8, "all but the rare action and the stars");
        assert_eq!((expected.tags.as_deref(), expected.tagged), (Some("fork || star"), 5));
    }

    #[test]
    fn events_without_tags_all_pass_the_second_group_and_none_the_first() {
        let expected = Expected::of(&[Event::default(), Event::default()]);
        assert_eq!((expected.triage, expected.tagged, expected.tags.as_deref()), (0, 2, None));
        assert_eq!(expected.filter_config(), json!({"accept": []}));
    }

    #[test]
    fn a_native_decision_takes_some_time() {
        let events = super::super::input::generate(100);
        let expected = Expected::of(&events);
        assert!(expected.native_filter_ns(&events) > 0.0);
        assert!(expected.native_selector_ns(&events) > 0.0);
    }
}
