//! A random run of a log on a simulated disk, with a picture of disk and promises after every operation.

use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::Mutex;
use pointsman_model::ids::{LogIndex, LogPosition, Term};
use pointsman_model::record;
use pointsman_model::time::Timestamp;

use super::oracle::{DIR, Expect, Setting, open_vote, read_all};
use super::random::Random;
use crate::base::Base;
use crate::disk::ensure_dir;
use crate::disk::sim::{SimDisk, World};
use crate::log::{CommitLog, Frame, FrameKind};
use crate::vote::{Vote, VoteFile};

/// Disk and promises at one moment.
pub(crate) type Picture = (World, Expect);

/// A run under way.
pub(crate) struct Run {
    pub(crate) disk: SimDisk,
    pub(crate) expect: Arc<Mutex<Expect>>,
    pub(crate) pictures: Arc<Mutex<Vec<Picture>>>,
    log: Option<CommitLog>,
    vote: Option<VoteFile>,
    setting: Setting,
    random: Random,
    term: u64,
    sealed: u64,
    tag: u64,
}

/// An entry whose bytes depend on everything, so that no two are equal.
pub(crate) fn frame(term: u64, index: u64, tag: u64, sizes: &[usize]) -> Frame {
    let mut records = BytesMut::new();
    for size in sizes {
        let head = [term.to_le_bytes(), index.to_le_bytes(), tag.to_le_bytes()].concat();
        let header = record::Header { kind: record::kind::PUBLISH, ..Default::default() };
        record::encode(&mut records, &header, &head, &vec![tag as u8 | 1; *size]);
    }
    let records = records.freeze();
    Frame {
        kind: if sizes.is_empty() { FrameKind::Blank } else { FrameKind::Batch },
        count: sizes.len() as u32,
        records_crc: record::records_crc(&records).expect("whole records"),
        records,
        ..Frame::blank(Term(term), LogIndex(index), Timestamp(1_000 + tag))
    }
}

impl Run {
    /// A fresh directory with an open log; every operation is pictured from here on.
    pub(crate) fn start(seed: u64, setting: Setting) -> Self {
        let disk = SimDisk::default();
        ensure_dir(&disk, Path::new(DIR)).expect("mkdir");
        let run = Self::on(disk, Expect::default(), setting, seed);
        run.picture_everything();
        run
    }

    /// A run on a disk that holds what `expect` says; nothing is opened yet.
    pub(crate) fn on(disk: SimDisk, expect: Expect, setting: Setting, seed: u64) -> Self {
        let term = expect.lineage.last().map_or(1, |frame| frame.term.0);
        Self {
            disk,
            expect: Arc::new(Mutex::new(expect)),
            pictures: Arc::default(),
            log: None,
            vote: None,
            setting,
            random: Random::new(seed),
            term,
            sealed: 0,
            tag: seed << 32,
        }
    }

    pub(crate) fn picture_everything(&self) {
        let (expect, pictures) = (Arc::clone(&self.expect), Arc::clone(&self.pictures));
        self.disk.observe(Box::new(move |world| pictures.lock().push((world.clone(), expect.lock().clone()))));
    }

    /// Ends the run and gives its pictures.
    pub(crate) fn finish(mut self) -> Vec<Picture> {
        self.log = None;
        self.disk.stop_observing();
        std::mem::take(&mut self.pictures.lock())
    }

    /// Does random things. Errors of the disk end it, as they end the process.
    pub(crate) fn go(&mut self, steps: u64) -> Result<(), crate::Error> {
        for _ in 0..steps {
            match self.random.below(100) {
                0..46 => self.append()?,
                46..72 => self.commit()?,
                72..80 => self.save_vote()?,
                80..87 => self.truncate()?,
                87..91 => self.purge()?,
                91..95 => self.seal()?,
                95..99 => self.reopen()?,
                _ => self.reset()?,
            }
        }
        self.commit()
    }

    /// Does random things; an error of the disk ends the process, which starts again and goes on.
    pub(crate) fn go_through(&mut self, steps: u64) -> u64 {
        let mut starts = 0;
        for _ in 0..steps {
            if self.go(1).is_err() {
                starts += 1;
                while self.reopen().is_err() {}
            }
        }
        starts
    }

    pub(crate) fn log(&mut self) -> Result<CommitLog, crate::Error> {
        if let Some(log) = &self.log {
            return Ok(log.clone());
        }
        let (log, _) = self.setting.open(&self.disk)?;
        // What is found after a start counts as durable, and so it must be.
        let mut expect = self.expect.lock();
        expect.lineage = read_all(&log)?;
        expect.durable = log.flushed().map_or(0, LogIndex::get);
        expect.purged = log.purged().map(|base| base.index.0);
        (expect.purging, expect.cap) = (None, None);
        drop(expect);
        self.log = Some(log.clone());
        Ok(log)
    }

    fn next_index(&mut self) -> Result<u64, crate::Error> {
        let log = self.log()?;
        let last = log.last().map(|last| last.1.0).max(log.purged().map(|base| base.index.0));
        Ok(last.map_or(1, |last| last + 1))
    }

    pub(crate) fn append(&mut self) -> Result<(), crate::Error> {
        let count = self.random.between(1, 3);
        let mut sizes = Vec::new();
        for _ in 0..count {
            // Few sizes, so that a new frame often ends where an old one did.
            let body = self.random.pick(&[200, 200, 200, 40, 700, 2_500]);
            sizes.push(vec![body; self.random.pick(&[0, 1, 1, 1, 2])]);
        }
        self.append_sized(&sizes)
    }

    /// Appends entries with records of these sizes; the callback makes them a promise.
    pub(crate) fn append_sized(&mut self, entries: &[Vec<usize>]) -> Result<(), crate::Error> {
        let log = self.log()?;
        let first = self.next_index()?;
        let mut frames = Vec::new();
        for (at, sizes) in entries.iter().enumerate() {
            self.tag += 1;
            frames.push(frame(self.term, first + at as u64, self.tag, sizes));
        }
        let (last, expect) = (first + entries.len() as u64 - 1, Arc::clone(&self.expect));
        let promise = move |result: Result<(), crate::Error>| {
            if result.is_ok() {
                expect.lock().promise(last);
            }
        };
        log.append(frames, Box::new(promise))?;
        let appended = log.read(LogIndex(first)..LogIndex(last + 1), usize::MAX)?;
        assert_eq!(appended.len(), entries.len(), "entries can be read once they are appended");
        self.expect.lock().lineage.extend(appended);
        Ok(())
    }

    pub(crate) fn commit(&mut self) -> Result<(), crate::Error> {
        let log = self.log()?;
        while log.step()? {}
        Ok(())
    }

    pub(crate) fn save_vote(&mut self) -> Result<(), crate::Error> {
        self.log()?.barrier()?;
        if self.vote.is_none() {
            self.vote = Some(open_vote(&self.disk)?);
        }
        self.term += self.random.below(2);
        let vote = Vote { term: Term(self.term), node: self.tag, committed: self.random.below(2) == 0 };
        self.tag += 1;
        self.expect.lock().voting = Some(vote);
        if let Some(file) = &mut self.vote {
            file.save(vote)?;
        }
        let mut expect = self.expect.lock();
        (expect.vote, expect.voting) = (Some(vote), None);
        Ok(())
    }

    fn truncate(&mut self) -> Result<(), crate::Error> {
        let log = self.log()?;
        let Some((_, last, _)) = log.last() else { return Ok(()) };
        let floor = log.purged().map_or(0, |base| base.index.0).max(self.sealed);
        let target = self.random.between(floor.min(last.0), last.0);
        self.truncate_to(&log, target)
    }

    pub(crate) fn truncate_to(&mut self, log: &CommitLog, target: u64) -> Result<(), crate::Error> {
        let mut expect = self.expect.lock();
        expect.cap = Some(target);
        expect.durable = expect.durable.min(target);
        drop(expect);
        let all = target == 0 && log.purged().is_none();
        log.truncate_after((!all).then_some(LogIndex(target)))?;
        let mut expect = self.expect.lock();
        expect.lineage.retain(|frame| frame.index.0 <= target);
        expect.cap = None;
        expect.promise(target.min(log.flushed().map_or(0, LogIndex::get)));
        self.term += self.random.below(2);
        Ok(())
    }

    fn purge(&mut self) -> Result<(), crate::Error> {
        let log = self.log()?;
        let (Some(first), Some((_, last, _))) = (log.first_index(), log.last()) else { return Ok(()) };
        let upto = LogIndex(self.random.between(first.0, last.0));
        log.barrier()?;
        self.expect.lock().purging = Some(upto.0);
        log.purge((log.term_at(upto)?, upto))?;
        let mut expect = self.expect.lock();
        (expect.purged, expect.purging) = (Some(upto.0), None);
        expect.promise(upto.0);
        Ok(())
    }

    fn seal(&mut self) -> Result<(), crate::Error> {
        let log = self.log()?;
        let durable = self.expect.lock().durable;
        if let Some(full) = log.full_segments().first().filter(|segment| segment.last_index.0 <= durable) {
            log.seal(full.base)?;
            self.sealed = full.last_index.0;
        }
        Ok(())
    }

    /// The process is killed and started again: what was not written is gone, what was is in the page cache.
    pub(crate) fn reopen(&mut self) -> Result<(), crate::Error> {
        (self.log, self.vote) = (None, None);
        // After a reset nothing but the base has the log's term.
        self.term = self.term.max(self.log()?.purged().map_or(0, |base| base.term.0));
        let vote = open_vote(&self.disk)?;
        let mut expect = self.expect.lock();
        (expect.vote, expect.voting) = (vote.load(), None);
        drop(expect);
        self.vote = Some(vote);
        self.term += self.random.below(2);
        Ok(())
    }

    /// A checkpoint past the end is installed.
    fn reset(&mut self) -> Result<(), crate::Error> {
        let log = self.log()?;
        let index = self.next_index()? + self.random.below(5);
        let end = LogPosition(log.end().0 + self.random.below(4) * 4_096);
        log.barrier()?;
        self.expect.lock().purging = Some(index);
        log.reset(Base { term: Term(self.term), index: LogIndex(index), end, stamp: Timestamp(5), crc: 0 })?;
        let mut expect = self.expect.lock();
        (expect.purged, expect.purging) = (Some(index), None);
        expect.lineage.clear();
        expect.promise(index);
        Ok(())
    }
}
