//! A disk in memory that forgets what was not synced, as real ones do.
//!
//! Every operation is numbered. What a file or directory holds is kept twice: as the process sees it (the page cache) and as
//! it would be found after a power cut, with the versions of each 512-byte sector in between. [`World::atoms`] lists what is
//! undecided at a moment, and [`World::crash`] gives the disk for one decision. Errors are injected by [`SimDisk::inject`].
//!
//! The rules are those of the table in `docs/reference/disk-format.md`, Crashes.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Disk, DiskFile, DiskLock, FileInfo};

mod crash;
mod fault;
mod world;

pub use crash::{Atom, Choice, Row, choices};
pub use fault::{Call, Fault, Injection};
pub use world::World;

use world::{Node, OpKind};

/// Sees the world after every operation that changed it.
pub type Observer = Box<dyn FnMut(&World) + Send>;

#[derive(Default)]
struct Shared {
    world: Mutex<World>,
    injections: Mutex<Vec<Injection>>,
    observer: Mutex<Option<Observer>>,
    locked: Mutex<Vec<PathBuf>>,
}

/// The simulated disk. Clones share it.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Shared>);

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("operations", &self.0.world.lock().operations()).finish_non_exhaustive()
    }
}

impl SimDisk {
    /// A disk that holds a world, which nothing is undecided about.
    #[must_use]
    pub fn with(world: World) -> Self {
        Self(Arc::new(Shared { world: Mutex::new(world), ..Shared::default() }))
    }

    /// The world as it is now.
    #[must_use]
    pub fn world(&self) -> World {
        self.0.world.lock().clone()
    }

    /// Lets calls fail.
    pub fn inject(&self, injection: Injection) {
        self.0.injections.lock().push(injection);
    }

    /// Lets no more calls fail.
    pub fn heal(&self) {
        self.0.injections.lock().clear();
    }

    /// Calls `observer` after every operation that changes something.
    pub fn observe(&self, observer: Observer) {
        *self.0.observer.lock() = Some(observer);
    }

    /// Calls nobody any more.
    pub fn stop_observing(&self) {
        *self.0.observer.lock() = None;
    }

    fn fault(&self, call: Call, path: &Path) -> Option<Fault> {
        let mut injections = self.0.injections.lock();
        let text = path.to_string_lossy();
        let hit =
            injections.iter_mut().find(|one| one.call == call && text.contains(one.path_contains) && one.times > 0)?;
        if hit.skip > 0 {
            hit.skip -= 1;
            return None;
        }
        hit.times -= 1;
        Some(hit.fault)
    }

    fn fail(&self, call: Call, path: &Path) -> io::Result<()> {
        match self.fault(call, path) {
            Some(Fault::Error(kind)) => Err(io::Error::new(kind, "injected")),
            _ => Ok(()),
        }
    }

    /// Changes the world as one operation and tells the observer.
    fn change<T>(&self, kind: OpKind, body: impl FnOnce(&mut World, u64) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.0.world.lock();
        let op = world.begin(kind);
        let done = body(&mut world, op)?;
        let seen = self.0.observer.lock().is_some().then(|| world.clone());
        drop(world);
        if let Some(seen) = seen
            && let Some(observer) = self.0.observer.lock().as_mut()
        {
            observer(&seen);
        }
        Ok(done)
    }

    fn file(&self, inode: u64, path: &Path) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), inode, path: path.to_owned() })
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if self.0.world.lock().lookup(path).is_ok_and(|node| matches!(node, Node::Dir(_))) {
            return Ok(());
        }
        self.change(OpKind::CreateDir, |world, op| world.create(path, true, op).map(|_| ()))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.world.lock().list(path)
    }

    fn info(&self, path: &Path) -> io::Result<FileInfo> {
        self.0.world.lock().info(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.fail(Call::Create, path)?;
        let node = self.change(OpKind::Create, |world, op| world.create(path, false, op))?;
        Ok(self.file(node.id(), path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let world = self.0.world.lock();
        if world.info(path)?.read_only {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(self.file(world.lookup(path)?.id(), path))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let world = self.0.world.lock();
        world.info(path)?;
        Ok(self.file(world.lookup(path)?.id(), path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(OpKind::Rename, |world, op| world.rename(from, to, op))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.change(OpKind::Unlink, |world, op| world.unlink(path, op))
    }

    fn set_read_only(&self, path: &Path, read_only: bool) -> io::Result<()> {
        self.change(OpKind::Mode, |world, op| world.set_read_only(path, read_only, op))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self.fault(Call::SyncDir, path) {
            Some(Fault::Error(kind)) => Err(io::Error::new(kind, "injected")),
            Some(Fault::Lie) => Ok(()),
            _ => self.change(OpKind::SyncDir, |world, _| world.sync_dir(path)),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        let mut locked = self.0.locked.lock();
        if locked.iter().any(|held| held == path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        locked.push(path.to_owned());
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned() }))
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.0.locked.lock().retain(|held| *held != self.path);
    }
}

/// An open file; it stays what it is when its name goes.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: u64,
    path: PathBuf,
}

impl DiskFile for SimFile {
    fn pwritev(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        match self.disk.fault(Call::Write, &self.path) {
            Some(Fault::Error(kind)) => return Err(io::Error::new(kind, "injected")),
            Some(_) => bytes.truncate(bytes.len().div_ceil(2)),
            None => {}
        }
        self.disk.change(OpKind::Write(self.inode), |world, op| {
            world.write(self.inode, offset, &bytes, op);
            Ok(bytes.len())
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.fail(Call::Read, &self.path)?;
        Ok(self.disk.0.world.lock().read(self.inode, offset, buffer))
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.disk.fail(Call::Reserve, &self.path)?;
        self.disk.change(OpKind::Reserve(self.inode), |world, op| {
            world.reserve(self.inode, len, op);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.disk.fault(Call::Sync, &self.path) {
            Some(Fault::Lie) => Ok(()),
            Some(Fault::Kill) => Err(io::Error::other("killed")),
            Some(Fault::Error(kind)) => {
                self.disk.change(OpKind::Sync, |world, _| {
                    world.sync_failed(self.inode);
                    Ok(())
                })?;
                Err(io::Error::new(kind, "injected"))
            }
            _ => self.disk.change(OpKind::Sync, |world, _| {
                world.sync(self.inode);
                Ok(())
            }),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.world.lock().len(self.inode))
    }

    fn map(&self, _: usize) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
}
