//! Files and directories as the process sees them, and as a power cut would leave them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use super::super::FileInfo;

pub(crate) const SECTOR_BYTES: usize = 512;
pub(crate) type Sector = Arc<[u8; SECTOR_BYTES]>;
const ROOT: u64 = 0;

/// What an operation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpKind {
    Write(u64),
    Reserve(u64),
    Mode,
    Sync,
    Create,
    CreateDir,
    Rename,
    Unlink,
    SyncDir,
}

/// A value that is not durable yet.
#[derive(Clone, Debug)]
pub(crate) struct Version<T> {
    /// The operation that made it.
    pub(crate) op: u64,
    pub(crate) value: T,
    /// A sync failed since: no later sync makes it durable.
    pub(crate) lost: bool,
}

/// A file without a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inode {
    pub(crate) durable: BTreeMap<u64, Sector>,
    pub(crate) durable_len: u64,
    pub(crate) durable_read_only: bool,
    pub(crate) seen: BTreeMap<u64, Sector>,
    pub(crate) len: u64,
    pub(crate) read_only: bool,
    pub(crate) sectors: BTreeMap<u64, Vec<Version<Sector>>>,
    pub(crate) lens: Vec<Version<u64>>,
    pub(crate) modes: Vec<Version<bool>>,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    File(u64),
    Dir(u64),
}

impl Node {
    pub(crate) const fn id(self) -> u64 {
        match self {
            Self::File(id) | Self::Dir(id) => id,
        }
    }
}

/// A change of a directory that is not durable yet.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Add(String, Node),
    Move(String, String, Node),
    Remove(String),
}

/// A directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dir {
    pub(crate) durable: BTreeMap<String, Node>,
    pub(crate) seen: BTreeMap<String, Node>,
    pub(crate) pending: Vec<(u64, Entry)>,
}

/// A whole disk. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct World {
    pub(crate) inodes: BTreeMap<u64, Arc<Inode>>,
    pub(crate) dirs: BTreeMap<u64, Arc<Dir>>,
    pub(crate) kinds: Arc<Vec<OpKind>>,
    /// Sectors of unlinked files, by place: blocks are used again.
    pub(crate) freed: BTreeMap<u64, Sector>,
    next_id: u64,
}

impl Default for World {
    fn default() -> Self {
        Self {
            inodes: BTreeMap::new(),
            dirs: BTreeMap::from([(ROOT, Arc::default())]),
            kinds: Arc::default(),
            freed: BTreeMap::new(),
            next_id: ROOT + 1,
        }
    }
}

impl Inode {
    fn write(&mut self, offset: u64, bytes: &[u8], op: u64) {
        let mut at = 0;
        while at < bytes.len() {
            let place = offset + at as u64;
            let (sector, within) = (place / SECTOR_BYTES as u64, (place % SECTOR_BYTES as u64) as usize);
            let count = (SECTOR_BYTES - within).min(bytes.len() - at);
            let mut content = self.seen.get(&sector).map_or([0; SECTOR_BYTES], |old| **old);
            content[within..within + count].copy_from_slice(&bytes[at..at + count]);
            let content: Sector = Arc::new(content);
            self.seen.insert(sector, Arc::clone(&content));
            self.sectors.entry(sector).or_default().push(Version { op, value: content, lost: false });
            at += count;
        }
        self.grow(offset + bytes.len() as u64, op);
    }

    fn grow(&mut self, len: u64, op: u64) {
        if len > self.len {
            self.len = len;
            self.lens.push(Version { op, value: len, lost: false });
        }
    }

    fn sync(&mut self) {
        let (seen, durable) = (&self.seen, &mut self.durable);
        self.sectors.retain(|sector, versions| {
            let lost = versions.iter().all(|version| version.lost);
            if !lost && let Some(content) = seen.get(sector) {
                durable.insert(*sector, Arc::clone(content));
            }
            lost
        });
        if self.lens.iter().any(|version| !version.lost) {
            (self.durable_len, self.lens) = (self.len, Vec::new());
        }
        if self.modes.iter().any(|version| !version.lost) {
            (self.durable_read_only, self.modes) = (self.read_only, Vec::new());
        }
    }

    fn sync_failed(&mut self) {
        self.sectors.values_mut().flatten().for_each(|version| version.lost = true);
        self.lens.iter_mut().for_each(|version| version.lost = true);
        self.modes.iter_mut().for_each(|version| version.lost = true);
    }
}

impl Dir {
    fn apply(entries: &mut BTreeMap<String, Node>, entry: &Entry) {
        match entry {
            Entry::Add(name, node) => {
                entries.insert(name.clone(), *node);
            }
            Entry::Move(from, to, node) => {
                if entries.get(from) == Some(node) {
                    entries.remove(from);
                }
                entries.insert(to.clone(), *node);
            }
            Entry::Remove(name) => {
                entries.remove(name);
            }
        }
    }

    fn change(&mut self, op: u64, entry: Entry) {
        Self::apply(&mut self.seen, &entry);
        self.pending.push((op, entry));
    }

    /// The entries after a power cut that kept some of the pending changes.
    pub(crate) fn after(&self, kept: impl Fn(u64) -> bool) -> BTreeMap<String, Node> {
        let mut entries = self.durable.clone();
        for (_, entry) in self.pending.iter().filter(|(op, _)| kept(*op)) {
            Self::apply(&mut entries, entry);
        }
        entries
    }
}

impl World {
    /// How many operations there were.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.kinds.len()
    }

    pub(crate) fn begin(&mut self, kind: OpKind) -> u64 {
        let op = self.kinds.len() as u64;
        Arc::make_mut(&mut self.kinds).push(kind);
        op
    }

    pub(crate) fn lookup(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Dir(ROOT);
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            let Node::Dir(dir) = node else { return Err(io::ErrorKind::NotADirectory.into()) };
            let found = self.dirs.get(&dir).and_then(|dir| dir.seen.get(&*name.to_string_lossy()));
            node = *found.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    fn dir_of(&mut self, path: &Path) -> io::Result<(&mut Dir, String)> {
        let name = path.file_name().map(OsStr::to_string_lossy).ok_or(io::ErrorKind::InvalidInput)?.into_owned();
        let parent = self.lookup(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        let dir = self.dirs.get_mut(&parent.id()).ok_or(io::ErrorKind::NotADirectory)?;
        Ok((Arc::make_mut(dir), name))
    }

    fn inode(&mut self, id: u64) -> &mut Inode {
        Arc::make_mut(self.inodes.entry(id).or_default())
    }

    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let node = self.lookup(path)?;
        let dir = self.dirs.get(&node.id()).ok_or(io::ErrorKind::NotADirectory)?;
        Ok(dir.seen.keys().cloned().collect())
    }

    pub(crate) fn info(&self, path: &Path) -> io::Result<FileInfo> {
        let inode = self.inodes.get(&self.lookup(path)?.id()).ok_or(io::ErrorKind::IsADirectory)?;
        Ok(FileInfo { len: inode.len, read_only: inode.read_only })
    }

    pub(crate) fn create(&mut self, path: &Path, directory: bool, op: u64) -> io::Result<Node> {
        if self.lookup(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = self.next_id;
        let node = if directory { Node::Dir(id) } else { Node::File(id) };
        let (dir, name) = self.dir_of(path)?;
        dir.change(op, Entry::Add(name, node));
        self.next_id += 1;
        if directory {
            self.dirs.insert(id, Arc::default());
        } else {
            self.inodes.insert(id, Arc::default());
        }
        Ok(node)
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path, op: u64) -> io::Result<()> {
        let node = self.lookup(from)?;
        assert_eq!(from.parent(), to.parent(), "renames between directories are not modelled");
        let (_, to) = self.dir_of(to)?;
        let (dir, from) = self.dir_of(from)?;
        dir.change(op, Entry::Move(from, to, node));
        Ok(())
    }

    pub(crate) fn unlink(&mut self, path: &Path, op: u64) -> io::Result<()> {
        let node = self.lookup(path)?;
        let (dir, name) = self.dir_of(path)?;
        dir.change(op, Entry::Remove(name));
        if let Some(inode) = self.inodes.get(&node.id()) {
            let freed: Vec<_> = inode.seen.iter().map(|(at, sector)| (*at, Arc::clone(sector))).collect();
            self.freed.extend(freed);
        }
        Ok(())
    }

    pub(crate) fn set_read_only(&mut self, path: &Path, read_only: bool, op: u64) -> io::Result<()> {
        let id = self.lookup(path)?.id();
        let inode = self.inode(id);
        inode.read_only = read_only;
        inode.modes.push(Version { op, value: read_only, lost: false });
        Ok(())
    }

    pub(crate) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let id = self.lookup(path)?.id();
        let dir = Arc::make_mut(self.dirs.get_mut(&id).ok_or(io::ErrorKind::NotADirectory)?);
        dir.durable = dir.seen.clone();
        dir.pending.clear();
        Ok(())
    }

    pub(crate) fn write(&mut self, inode: u64, offset: u64, bytes: &[u8], op: u64) {
        self.inode(inode).write(offset, bytes, op);
    }

    pub(crate) fn reserve(&mut self, inode: u64, len: u64, op: u64) {
        self.inode(inode).grow(len, op);
    }

    pub(crate) fn sync(&mut self, inode: u64) {
        self.inode(inode).sync();
    }

    pub(crate) fn sync_failed(&mut self, inode: u64) {
        self.inode(inode).sync_failed();
    }

    pub(crate) fn len(&self, inode: u64) -> u64 {
        self.inodes.get(&inode).map_or(0, |inode| inode.len)
    }

    pub(crate) fn read(&self, inode: u64, offset: u64, buffer: &mut [u8]) -> usize {
        let Some(inode) = self.inodes.get(&inode) else { return 0 };
        let count = (buffer.len() as u64).min(inode.len.saturating_sub(offset)) as usize;
        let mut at = 0;
        while at < count {
            let place = offset + at as u64;
            let (sector, within) = (place / SECTOR_BYTES as u64, (place % SECTOR_BYTES as u64) as usize);
            let step = (SECTOR_BYTES - within).min(count - at);
            match inode.seen.get(&sector) {
                Some(content) => buffer[at..at + step].copy_from_slice(&content[within..within + step]),
                None => buffer[at..at + step].fill(0),
            }
            at += step;
        }
        count
    }

    /// Every file with its path and bytes, as the process sees them.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut out = BTreeMap::new();
        self.visit(ROOT, "", &mut |path, inode| {
            let mut bytes = vec![0; inode.len as usize];
            for (at, sector) in &inode.seen {
                let from = *at as usize * SECTOR_BYTES;
                if from < bytes.len() {
                    let count = SECTOR_BYTES.min(bytes.len() - from);
                    bytes[from..from + count].copy_from_slice(&sector[..count]);
                }
            }
            out.insert(path.to_owned(), bytes);
        });
        out
    }

    /// A hash of every name, length, mode and byte that the process sees.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut sum = Vec::new();
        self.visit(ROOT, "", &mut |path, inode| {
            sum.extend_from_slice(path.as_bytes());
            sum.extend_from_slice(&inode.len.to_le_bytes());
            sum.push(u8::from(inode.read_only));
            for (at, sector) in inode.seen.iter().filter(|(_, sector)| ***sector != [0; SECTOR_BYTES]) {
                sum.extend_from_slice(&at.to_le_bytes());
                sum.extend_from_slice(&pointsman_model::hash::hash(&sector[..]).to_le_bytes());
            }
        });
        pointsman_model::hash::hash(&sum)
    }

    fn visit(&self, dir: u64, prefix: &str, body: &mut impl FnMut(&str, &Inode)) {
        let Some(entries) = self.dirs.get(&dir) else { return };
        for (name, node) in &entries.seen {
            let path = format!("{prefix}/{name}");
            match node {
                Node::Dir(id) => self.visit(*id, &path, body),
                Node::File(id) => {
                    if let Some(inode) = self.inodes.get(id) {
                        body(&path, inode);
                    }
                }
            }
        }
    }

    /// Changes the bytes of a file for good, as decay would: synced, and no operation.
    ///
    /// # Errors
    /// There is no such file.
    pub fn corrupt(&mut self, path: &Path, offset: u64, change: impl FnOnce(&mut u8)) -> io::Result<()> {
        let id = self.lookup(path)?.id();
        let mut byte = [0];
        self.read(id, offset, &mut byte);
        change(&mut byte[0]);
        let inode = self.inode(id);
        inode.write(offset, &byte, u64::MAX);
        inode.sync();
        Ok(())
    }
}
