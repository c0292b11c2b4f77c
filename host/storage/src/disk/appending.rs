//! Appends in whole blocks: small ones through the page cache, large ones past it.
//!
//! A write that covers whole blocks never makes the kernel read one first, so the page cache needs to hold nothing of a
//! file that grows. A large append goes past it (`O_DIRECT`): a page of the cache costs its share of a copy, of a walk at
//! the next sync and of reclaim, and where memory comes from a hypervisor that takes free pages back, a first touch of
//! several microseconds (`docs/benchmarks.md`). What was appended lately is read from memory of our own.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};

/// What appends are rounded to. No disk has larger blocks, and pages are not smaller.
const BLOCK: u64 = 4_096;
/// An append of so many bytes goes past the page cache. Waiting for a disk costs more than copying less.
const DIRECT_BYTES_MIN: u64 = 64 << 10;
/// Bytes copied for one direct write.
const CHUNK: usize = 1 << 20;

/// The end of a file that grows.
#[derive(Default)]
pub(super) struct Appending {
    /// The block that the file ends in, and where it starts: the next append writes it again with what is added.
    last: Option<(u64, Vec<u8>)>,
    /// The file without its cache, once it was needed; `Some(None)` if the file system has no such thing.
    direct: Option<Option<File>>,
    /// Memory that a disk can read: an aligned part of it is used.
    buffer: Vec<u8>,
    /// The file is at least so long.
    len: u64,
}

impl fmt::Debug for Appending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appending").field("last", &self.last.as_ref().map(|(at, _)| at)).finish_non_exhaustive()
    }
}

impl Appending {
    /// A write of another kind may have changed the last block.
    pub(super) fn forget(&mut self, offset: u64, bytes: u64) {
        if self.last.as_ref().is_some_and(|(at, _)| offset < at + BLOCK && *at < offset + bytes) {
            self.last = None;
        }
    }

    /// Appends. Behind it there are zeros up to the next block, or nothing.
    pub(super) fn append(&mut self, file: &File, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        let (start, end) = (offset / BLOCK * BLOCK, offset + bytes);
        let head = self.head(file, start, offset)?;
        let mut padded = end.next_multiple_of(BLOCK);
        if padded > self.len {
            self.len = file.metadata()?.len();
            // A file that ends within a block is not made longer than it is.
            padded = if padded > self.len { end } else { padded };
        }
        let zeros = [0; BLOCK as usize];
        let mut all = Vec::with_capacity(slices.len() + 2);
        all.push(IoSlice::new(&head));
        all.extend_from_slice(slices);
        all.push(IoSlice::new(&zeros[..(padded - end) as usize]));
        // Whatever happens to a part of it, nobody knows what the block is then.
        self.last = None;
        let direct =
            bytes >= DIRECT_BYTES_MIN && padded.is_multiple_of(BLOCK) && self.write_direct(file, &all, start)?;
        if !direct {
            let rest = &mut all[..];
            super::write_all(rest, start, |slices, offset| Ok(rustix::io::pwritev(file, slices, offset)?))?;
        }
        self.last = Some((end / BLOCK * BLOCK, tail_of(&head, slices, (end % BLOCK) as usize)));
        Ok(())
    }

    /// What the first block holds before `offset`.
    fn head(&self, file: &File, start: u64, offset: u64) -> io::Result<Vec<u8>> {
        let bytes = (offset - start) as usize;
        match &self.last {
            Some((at, block)) if *at == start && block.len() == bytes => Ok(block.clone()),
            _ => {
                let mut block = vec![0; bytes];
                file.read_exact_at(&mut block, start)?;
                Ok(block)
            }
        }
    }

    /// Writes whole blocks past the page cache; false if that is not possible, and then nothing may be said of them.
    fn write_direct(&mut self, file: &File, slices: &[IoSlice<'_>], offset: u64) -> io::Result<bool> {
        let Some(direct) = self.direct.get_or_insert_with(|| reopen(file)) else { return Ok(false) };
        self.buffer.resize(CHUNK + BLOCK as usize, 0);
        let from = self.buffer.as_ptr().align_offset(BLOCK as usize);
        let Some(buffer) = self.buffer.get_mut(from..from + CHUNK) else { return Ok(false) };
        match write_through(direct, buffer, slices, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.direct = Some(None);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Writes all slices, copied to a buffer that is filled again and again.
fn write_through(file: &File, buffer: &mut [u8], slices: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    let mut filled = 0;
    for slice in slices {
        let mut rest = &**slice;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(buffer.len() - filled));
            buffer[filled..filled + now.len()].copy_from_slice(now);
            (filled, rest) = (filled + now.len(), later);
            if filled == buffer.len() {
                file.write_all_at(buffer, offset)?;
                (offset, filled) = (offset + filled as u64, 0);
            }
        }
    }
    file.write_all_at(&buffer[..filled], offset)
}

/// The same file, opened to be written past the page cache. By its descriptor: it may have another name by now.
fn reopen(file: &File) -> Option<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let opened = rustix::fs::open(path, OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty());
    opened.map(File::from).map_err(|error| tracing::debug!(%error, "appends go through the page cache")).ok()
}

/// The last `bytes` of all that was written.
fn tail_of(head: &[u8], slices: &[IoSlice<'_>], bytes: usize) -> Vec<u8> {
    let mut parts = Vec::new();
    let mut missing = bytes;
    for slice in slices.iter().rev().map(|slice| &**slice).chain([head]) {
        let taken = missing.min(slice.len());
        parts.push(&slice[slice.len() - taken..]);
        missing -= taken;
    }
    parts.into_iter().rev().flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Disk as _, RealDisk};
    use super::*;

    /// Appends of all sorts of lengths, in the cache and past it, beside a file of bytes that must come out.
    fn check(dir: &Path, len: u64) {
        let path = dir.join(format!("file-{len}"));
        let mut file = RealDisk.create(&path).expect("create");
        file.reserve(len).expect("reserve");
        let mut expected = vec![0_u8; len as usize];
        let mut at = 8;
        let sizes = [1, 4_087, 4_088, 4_096, 4_097, 65_535, 65_536, 65_537, 7, 1 << 20, (1 << 20) + 1, 100, 3 << 20, 9];
        for (n, bytes) in sizes.into_iter().cycle().enumerate() {
            if at + bytes > expected.len() {
                break;
            }
            let body: Vec<u8> = (0..bytes).map(|byte| (byte * 31 + n) as u8 | 1).collect();
            let (one, two) = body.split_at(bytes / 3);
            file.append(&mut [IoSlice::new(one), IoSlice::new(two)], at as u64).expect("append");
            expected[at..at + bytes].copy_from_slice(&body);
            at += bytes;
            match n % 5 {
                // Another kind of write, which takes the end back.
                1 => {
                    let cut = at - bytes.min(10);
                    file.write_all_at(&vec![0; at - cut], cut as u64).expect("zero");
                    expected[cut..at].fill(0);
                    at = cut;
                }
                3 => file = RealDisk.open(&path).expect("open"),
                _ => {}
            }
            file.sync_data().expect("sync");
            let mut found = vec![0; expected.len()];
            file.read_exact_at(&mut found, 0).expect("read");
            assert!(found == expected, "append {n} of {bytes} bytes to {at}");
        }
        assert!(at > 1 << 20);
        assert_eq!(file.len().expect("len"), len);
        drop(file);
        assert!(std::fs::read(&path).expect("read") == expected);
    }

    #[test]
    fn appends_of_every_length_read_back_and_leave_zeros_behind() {
        let dir = tempfile::tempdir().expect("tempdir");
        for len in [16 << 20, (12 << 20) + 1_000] {
            check(dir.path(), len);
            // A file system in memory, which has no cache to go past.
            if Path::new("/dev/shm").is_dir() {
                let memory = tempfile::tempdir_in("/dev/shm").expect("tempdir");
                check(memory.path(), len);
            }
        }
    }

    #[test]
    fn a_file_that_cannot_grow_says_so() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("file");
        std::fs::write(&path, [1; 100]).expect("write");
        let file = RealDisk.open(&path).expect("open");
        file.append(&mut [IoSlice::new(b"behind the end")], 100).expect("append");
        assert_eq!(file.len().expect("len"), 114, "not a whole block");
        let read_only = RealDisk.open_read(&path).expect("open");
        assert!(read_only.append(&mut [IoSlice::new(b"x")], 114).is_err());
    }
}
