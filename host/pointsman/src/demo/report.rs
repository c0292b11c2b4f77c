//! What the demonstration tells: a short report, whether it is what it should be, and the curl lines.

use serde::Serialize;

use super::expected::Expected;
use super::judgements::Judgements;
use super::{BINDING, FILTER, QUEUES, SELECTOR, TENANT, TOPIC, TRIAGE, VERSION};
use crate::output::Table;

/// All figures of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Events published.
    pub(super) events: u64,
    /// Messages in each queue.
    pub(super) queues: Vec<u64>,
    /// What the stream showed.
    pub(super) streamed: Streamed,
    /// What each group got.
    pub(super) groups: Vec<GroupReport>,
    /// What a decision costs.
    pub(super) decisions: Vec<Decision>,
    /// What dedup, retry, check-back and delay came to.
    pub(super) judgements: Judgements,
    /// Time of all publishes.
    pub(super) publish_ms: f64,
    /// Time of the stream.
    pub(super) stream_ms: f64,
    /// Lines for a shell that do the same.
    pub(super) curl: Vec<String>,
}

/// What the SSE stream of the whole topic showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Streamed {
    /// Messages.
    pub(super) messages: u64,
    /// Messages whose offset did not follow the one before in their queue.
    pub(super) out_of_order: u64,
    /// Different first keys.
    pub(super) keys: u64,
    /// Messages found in another queue than the first of their key.
    pub(super) split_keys: u64,
}

/// What a group got.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct GroupReport {
    /// Its name.
    pub(super) name: String,
    /// Its filter.
    pub(super) filter: String,
    /// Leases.
    pub(super) delivered: u64,
    /// Leases acked.
    pub(super) acked: u64,
    /// Events that pass the filter, counted natively.
    pub(super) expected: u64,
    /// Events that do not.
    pub(super) filtered: u64,
    /// Time of all leases and acks.
    pub(super) took_ms: f64,
}

/// What a plugin's decision costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Decision {
    /// The binding of the plugin.
    pub(super) binding: String,
    /// Messages it judged.
    pub(super) messages: u64,
    /// Calls it took.
    pub(super) calls: u64,
    /// Nanoseconds a message in the run, the making of instances and their audit included.
    pub(super) run_ns: u64,
    /// Nanoseconds a message in the sandbox, warm, at full batches.
    pub(super) sandbox_ns: f64,
    /// Nanoseconds a message in native code.
    pub(super) native_ns: f64,
}

impl Report {
    /// Whether everything came out as counted.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        let mut wrong = Vec::new();
        let mut check = |good: bool, what: String| {
            if !good {
                wrong.push(what);
            }
        };
        let (events, routed) = (self.events, self.queues.iter().sum::<u64>());
        check(routed == events, format!("{events} events were published and {routed} are in the queues"));
        let streamed = &self.streamed;
        check(streamed.messages == events, format!("{events} were published and {} streamed", streamed.messages));
        check(streamed.out_of_order == 0, format!("{} came out of order", streamed.out_of_order));
        check(streamed.split_keys == 0, format!("{} are not in the queue of their repository", streamed.split_keys));
        for GroupReport { name, delivered, acked, expected, .. } in &self.groups {
            check(delivered == expected, format!("group {name} should get {expected} and got {delivered}"));
            check(acked == delivered, format!("group {name} got {delivered} and acked {acked}"));
        }
        wrong.extend(self.judgements.wrong());
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(format!("the counts do not match: {}", wrong.join("; "))),
        }
    }

    /// The report for people.
    pub(crate) fn text(&self) -> String {
        let per_second = self.events as f64 / (self.publish_ms / 1e3).max(1e-6);
        let mut text = format!(
            "published  {} events in {:.1} ms, {per_second:.0}/s, each fsynced before its answer\n",
            self.events, self.publish_ms
        );
        let queues: Vec<String> = self.queues.iter().enumerate().map(|(i, n)| format!("queue {i}: {n}")).collect();
        text += &format!("routed     {}; {} repositories, each in one queue\n", queues.join(", "), self.streamed.keys);
        text += &format!("streamed   {} by SSE in {:.1} ms, in order\n\n", self.streamed.messages, self.stream_ms);

        let mut groups = Table::new(["GROUP", "DELIVERED", "ACKED", "FILTERED", "MS", "FILTER"]);
        for group in &self.groups {
            groups.row([
                group.name.clone(),
                group.delivered.to_string(),
                group.acked.to_string(),
                group.filtered.to_string(),
                format!("{:.1}", group.took_ms),
                group.filter.clone(),
            ]);
        }
        text += &groups.text();
        let mut decisions =
            Table::new(["BINDING", "DECISIONS", "A CALL", "NS IN THE RUN", "NS WARM AT 256", "NS NATIVE"]);
        for decision in &self.decisions {
            decisions.row([
                decision.binding.clone(),
                decision.messages.to_string(),
                format!("{:.0}", decision.messages as f64 / decision.calls.max(1) as f64),
                decision.run_ns.to_string(),
                format!("{:.1}", decision.sandbox_ns),
                format!("{:.1}", decision.native_ns),
            ]);
        }
        text += &format!("\n{}\n", decisions.text());
        text += &format!("{}\n", self.judgements.text());
        text += "The same with curl, against `pointsman demo --keep`:\n\n";
        text + &self.curl.join("\n")
    }
}

/// Lines for a shell. They repeat what was done, and work on what is there already.
pub(super) fn curl_lines(url: &str, expected: &Expected) -> Vec<String> {
    let quoted = |value: serde_json::Value| format!("'{}'", value.to_string().replace('\'', r"'\''"));
    let group = quoted(serde_json::json!({
        "topics": [{
            "topic": TOPIC,
            "filter": {"plugin": FILTER, "version": VERSION, "config": expected.filter_config()},
        }],
        "start": "earliest",
    }));
    let binding = quoted(serde_json::json!({
        "slot": "selector", "topic": TOPIC, "plugin": SELECTOR, "version": VERSION, "keyed": true,
    }));
    let tag =
        expected.accepted_tag().map_or_else(String::new, |tag| format!(" -H 'Pm-Tag: {}'", tag.replace('\'', r"'\''")));
    let wasm = |name: &str| {
        [
            format!("curl -sf -o {name}.wasm $T/plugins/{name}/versions/{VERSION}/wasm"),
            format!("curl -sf -T {name}.wasm -H 'Content-Type: application/wasm' $T/plugins/{name}/versions/{VERSION}"),
        ]
    };
    let mut lines = vec![format!("T={url}/v1/tenants/{TENANT}"), "curl -sf -X PUT --json '{}' $T".to_owned()];
    lines.extend(wasm(FILTER));
    lines.extend(wasm(SELECTOR));
    lines.extend([
        format!("curl -sf -X PUT --json '{{\"queues\":{QUEUES}}}' $T/topics/{TOPIC}"),
        format!("curl -sf -X PUT --json {group} $T/groups/{TRIAGE}"),
        format!("curl -sf -X PUT --json {binding} $T/bindings/{BINDING}"),
        format!("curl -sf{tag} -H 'Pm-Key: ada/engine' -H 'Content-Type: text/plain' -d hello $T/topics/{TOPIC}/messages"),
        format!("curl -sf $T/topics/{TOPIC}/queues"),
        format!("R=$(curl -sf --json '{{\"max_messages\":1,\"wait_ms\":1000}}' $T/groups/{TRIAGE}/leases | sed -n 's/.*\"receipt\":\"\\([^\"]*\\)\".*/\\1/p')"),
        format!("curl -sf --json '{{\"items\":[{{\"receipt\":\"'$R'\",\"op\":\"ack\"}}]}}' $T/groups/{TRIAGE}/settle"),
        format!("curl -sfN \"$T/topics/{TOPIC}/stream?from=earliest&max_events=3&until=tail\""),
        format!("curl -sf $T/bindings/{BINDING}/stats"),
    ]);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Report {
        Report {
            events: 10,
            queues: vec![4, 0, 6],
            streamed: Streamed { messages: 10, keys: 3, ..Streamed::default() },
            groups: vec![GroupReport {
                name: "triage".into(),
                delivered: 7,
                acked: 7,
                expected: 7,
                filtered: 3,
                ..GroupReport::default()
            }],
            decisions: vec![Decision { binding: "b".into(), messages: 10, calls: 4, ..Decision::default() }],
            judgements: Judgements::expected(),
            publish_ms: 5.0,
            ..Report::default()
        }
    }

    #[test]
    fn equal_counts_are_good_and_told() {
        let report = good();
        assert_eq!(report.verdict(), Ok(()));
        let text = report.text();
        for part in ["10 events in 5.0 ms, 2000/s", "queue 0: 4, queue 1: 0, queue 2: 6", "triage  7          7      3"]
        {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
    }

    #[test]
    fn every_difference_is_an_error() {
        let check = |change: &dyn Fn(&mut Report), expected: &str| {
            let mut report = good();
            change(&mut report);
            let error = report.verdict().expect_err(expected);
            assert!(error.contains(expected), "`{error}` lacks `{expected}`");
        };
        check(&|report| report.queues[0] = 3, "9 are in the queues");
        check(&|report| report.streamed.messages = 9, "9 streamed");
        check(&|report| report.streamed.out_of_order = 1, "1 came out of order");
        check(&|report| report.streamed.split_keys = 2, "2 are not in the queue of their repository");
        check(&|report| report.groups[0].delivered = 8, "should get 7 and got 8");
        check(&|report| report.groups[0].acked = 6, "got 7 and acked 6");
        check(&|report| report.judgements.duplicates = 99, "duplicates found: 99 instead of 100");
        check(&|report| report.judgements.payments = 41, "payments visible: 41 instead of 30");
    }

    #[test]
    fn curl_lines_are_whole() {
        let events = super::super::input::generate(50);
        let lines = curl_lines("http://127.0.0.1:7070", &Expected::of(&events));
        assert_eq!(lines[0], "T=http://127.0.0.1:7070/v1/tenants/demo");
        assert!(lines[1..].iter().all(|line| line.contains("curl -sf") && line.contains("$T")));
    }
}
