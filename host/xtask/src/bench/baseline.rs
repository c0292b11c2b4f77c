//! The bare loop: `pwrite` and `fdatasync` of the same bytes, by one thread, into a file that was zero-written before.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Options;
use super::figures::{Figure, Table};

const FILE_BYTES: u64 = 256 << 20;

/// One row for each size that the broker writes at once.
pub(crate) fn measure(scratch: &Path, options: &Options, table: &mut Table) -> Result<(), String> {
    for (messages, bytes) in [(1, 1 << 10), (32, 32 << 10), (100, 100 << 10), (400, 400 << 10)] {
        let name = format!("baseline: write+fdatasync of {messages} × 1 KiB");
        if !options.wants("baseline") {
            continue;
        }
        let mut runs = Vec::new();
        for _ in 0..options.runs {
            runs.push(one(scratch, messages, bytes, options.length()).map_err(|e| e.to_string())?);
        }
        table.row(&name, "messages", Figure::median(runs), "one thread, no broker");
    }
    Ok(())
}

fn one(scratch: &Path, messages: usize, bytes: usize, length: Duration) -> std::io::Result<Figure> {
    let path = scratch.join("baseline");
    let file = File::create(&path)?;
    let zeros = vec![0; 1 << 20];
    for step in 0..FILE_BYTES >> 20 {
        file.write_all_at(&zeros, step << 20)?;
    }
    file.sync_all()?;
    let payload = vec![b'x'; bytes];
    let mut latencies = Vec::new();
    let start = Instant::now();
    let mut at = 0;
    while start.elapsed() < length {
        let before = Instant::now();
        file.write_all_at(&payload, at)?;
        file.sync_data()?;
        latencies.push(before.elapsed());
        at = (at + bytes as u64) % (FILE_BYTES - bytes as u64);
    }
    let figure = Figure::of(latencies, messages, start.elapsed());
    drop(file);
    std::fs::remove_file(path)?;
    Ok(figure)
}
