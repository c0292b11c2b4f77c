//! Samples, medians and the table they are printed in.

use std::time::Duration;

use super::Options;

/// What one run gave.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figure {
    /// Units a second.
    pub(crate) per_second: f64,
    /// Median latency of a call.
    pub(crate) p50: Duration,
    /// 99th percentile.
    pub(crate) p99: Duration,
}

impl Figure {
    /// From the latencies of all calls, each of which carried `units`.
    pub(crate) fn of(mut latencies: Vec<Duration>, units: usize, elapsed: Duration) -> Self {
        latencies.sort_unstable();
        let at = |q: f64| latencies.get(((latencies.len() as f64 - 1.0) * q) as usize).copied().unwrap_or_default();
        Self { per_second: (latencies.len() * units) as f64 / elapsed.as_secs_f64(), p50: at(0.5), p99: at(0.99) }
    }

    /// The run whose rate is the median; its latencies go with it.
    pub(crate) fn median(mut runs: Vec<Self>) -> Self {
        runs.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        runs.get(runs.len() / 2).copied().unwrap_or_default()
    }
}

/// All rows so far.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<String>,
    appendices: Vec<String>,
}

impl Table {
    /// Adds a row and shows it at once.
    pub(crate) fn row(&mut self, name: &str, unit: &str, figure: Figure, remark: &str) {
        let row = format!(
            "| {name} | {} {unit}/s | {} | {} | {remark} |",
            thousands(figure.per_second),
            milliseconds(figure.p50),
            milliseconds(figure.p99)
        );
        eprintln!("{row}");
        self.rows.push(row);
    }

    /// Adds a block of text below the table.
    pub(crate) fn appendix(&mut self, title: &str, text: &str) {
        self.appendices.push(format!("\n{title}:\n\n```text\n{}\n```\n", text.trim_end()));
    }

    /// The whole page part.
    pub(crate) fn markdown(&self, options: &Options) -> String {
        let mut text = format!(
            "\nMedian of {} runs of {} s each; {} cores shared by server and load.\n\n| what | rate | p50 | p99 | remark |\n|---|---|---|---|---|\n",
            options.runs,
            options.seconds,
            std::thread::available_parallelism().map_or(0, std::num::NonZero::get)
        );
        for row in &self.rows {
            text.push_str(row);
            text.push('\n');
        }
        for appendix in &self.appendices {
            text.push_str(appendix);
        }
        text
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(c);
    }
    text
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
