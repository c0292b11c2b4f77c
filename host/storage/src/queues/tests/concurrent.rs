//! Readers beside the one writer, while segments fill, seal and go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

#[test]
fn readers_see_dense_queues_while_segments_fill_seal_and_go() {
    let dir = scratch::dir();
    let (index, _) = open(dir.path(), &[]).expect("opens");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 0;
            for segment in 0..12_u64 {
                let base = LogPosition(segment * 1_000_000);
                for n in 0..200 {
                    let logged = one(segment * 200 + n + 1, next);
                    let position = LogPosition(base.0 + n * 5_000);
                    let keys = vec![(TopicId(1), 5, Ordinal(0))];
                    index.append(&Logged { segment: base, position, keys, ..logged }.frame());
                    next += 1;
                }
                if let Some(full) = segment.checked_sub(1) {
                    index.seal(LogPosition(full * 1_000_000)).expect("seals");
                }
                if let Some(old) = segment.checked_sub(4) {
                    index.drop_segment(LogPosition(old * 1_000_000)).expect("drops");
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        let (mut from, mut read) = (0, 0);
        while !done.load(Ordering::SeqCst) || read < 2_400 {
            match index.read(TopicId(1), QueueId(0), QueueOffset(from), 37).expect("reads") {
                // Offset n is of entry n + 1.
                QueueRead::Entries(entries) => {
                    assert!((from..).zip(&entries).all(|(offset, entry)| entry.index.0 == offset + 1));
                    from += entries.len() as u64;
                    read += entries.len();
                }
                QueueRead::Below { earliest } => {
                    assert!(earliest.0 > from);
                    (read, from) = (read + (earliest.0 - from) as usize, earliest.0);
                }
            }
            let newest = index.by_key(TopicId(1), 5, 500).expect("reads");
            assert!(newest.windows(2).all(|pair| pair[0].0.0 == pair[1].0.0 + 1), "newest first, none left out");
            // Old again now and then, so that retention overtakes the reader.
            from = if from % 5 == 4 { from.saturating_sub(900) } else { from };
        }
        let gone = index.read(TopicId(1), QueueId(0), QueueOffset(0), 1).expect("reads");
        assert_eq!(gone, QueueRead::Below { earliest: QueueOffset(8 * 200) });
    });
}
