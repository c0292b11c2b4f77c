//! A small file with two slots, written in turn: what the vote and the base are kept in.
//!
//! A save overwrites the older slot and syncs, so a torn write leaves the newer one. Each slot has its own 4 KiB page.
//! The file is made whole under another name and renamed, so one that is short or has no valid slot is damage and never
//! an unfinished creation. Layout: `docs/reference/disk-format.md`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Error;
use crate::disk::{Disk, DiskFile};
use crate::identity::Owner;

/// Bytes of what a slot carries.
pub(crate) const PAYLOAD_BYTES: usize = 40;
const SLOT_BYTES: usize = 60;
const CRC_AT: usize = SLOT_BYTES - 4;
const SLOT_DISTANCE_BYTES: u64 = 4_096;
const FILE_BYTES: usize = 2 * SLOT_DISTANCE_BYTES as usize;
const FORMAT: u16 = 1;

/// What a slot carries.
pub(crate) type Payload = [u8; PAYLOAD_BYTES];

/// One slot: a counter that tells the newer one, and what was saved, if anything was yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    counter: u64,
    payload: Option<Payload>,
}

/// Which file this is and whose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// First bytes of every slot.
    pub(crate) magic: [u8; 4],
    /// Name of the file.
    pub(crate) name: &'static str,
}

impl Slot {
    fn encode(self, kind: Kind, owner: &Owner) -> [u8; SLOT_BYTES] {
        let mut out = [0; SLOT_BYTES];
        out[..4].copy_from_slice(&kind.magic);
        out[4..6].copy_from_slice(&FORMAT.to_le_bytes());
        out[6..8].copy_from_slice(&u16::from(self.payload.is_some()).to_le_bytes());
        out[8..16].copy_from_slice(&self.counter.to_le_bytes());
        out[16..CRC_AT].copy_from_slice(&self.payload.unwrap_or([0; PAYLOAD_BYTES]));
        let crc = owner.crc(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `Ok(None)` if the bytes are no slot of this file; the format alone is an error, if the rest holds.
    fn decode(bytes: &[u8; SLOT_BYTES], kind: Kind, owner: &Owner) -> Result<Option<Self>, u16> {
        let crc = u32::from_le_bytes([bytes[CRC_AT], bytes[CRC_AT + 1], bytes[CRC_AT + 2], bytes[CRC_AT + 3]]);
        if bytes[..4] != kind.magic || owner.crc(&bytes[..CRC_AT]) != crc {
            return Ok(None);
        }
        let format = u16::from_le_bytes([bytes[4], bytes[5]]);
        if format > FORMAT {
            return Err(format);
        }
        let mut counter = [0; 8];
        counter.copy_from_slice(&bytes[8..16]);
        let mut payload = [0; PAYLOAD_BYTES];
        payload.copy_from_slice(&bytes[16..CRC_AT]);
        let saved = u16::from_le_bytes([bytes[6], bytes[7]]) != 0;
        Ok(Some(Self { counter: u64::from_le_bytes(counter), payload: saved.then_some(payload) }))
    }
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Slots {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    kind: Kind,
    owner: Owner,
    newest: Slot,
    failed: Option<Arc<Error>>,
}

impl Slots {
    /// Opens the file in `dir`, or creates it with nothing saved.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, kind: Kind, owner: Owner) -> Result<Self, Error> {
        let path = dir.join(kind.name);
        let names = disk.list(dir).map_err(Error::io("list", dir))?;
        if !names.iter().any(|name| name == kind.name) {
            Self::create(disk, dir, &path, kind, &owner)?;
        }
        let file = disk.open(&path).map_err(Error::io("open", &path))?;
        let newest = Self::newest(&*file, &path, kind, &owner)?;
        let slots = Self { file, path, kind, owner, newest, failed: None };
        // What was read may be in the page cache alone: of a process killed before its sync, or one whose sync failed, after
        // which the next one says Ok and writes nothing. Written again it is synced again.
        slots.write(newest)?;
        disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
        Ok(slots)
    }

    fn create(disk: &dyn Disk, dir: &Path, path: &Path, kind: Kind, owner: &Owner) -> Result<(), Error> {
        let unfinished = dir.join(format!("{}.tmp", kind.name));
        if disk.info(&unfinished).is_ok() {
            disk.unlink(&unfinished).map_err(Error::io("remove", &unfinished))?;
        }
        let file = disk.create(&unfinished).map_err(Error::io("create", &unfinished))?;
        let mut bytes = vec![0; FILE_BYTES];
        bytes[..SLOT_BYTES].copy_from_slice(&Slot { counter: 0, payload: None }.encode(kind, owner));
        file.write_all_at(&bytes, 0).map_err(Error::io("write", &unfinished))?;
        file.sync_data().map_err(Error::io("sync", &unfinished))?;
        disk.rename(&unfinished, path).map_err(Error::io("rename", &unfinished))?;
        disk.sync_dir(dir).map_err(Error::io("sync", dir))
    }

    fn newest(file: &dyn DiskFile, path: &Path, kind: Kind, owner: &Owner) -> Result<Slot, Error> {
        let mut newest: Option<Slot> = None;
        for place in 0..2 {
            let mut bytes = [0; SLOT_BYTES];
            file.read_up_to(&mut bytes, place * SLOT_DISTANCE_BYTES).map_err(Error::io("read", path))?;
            let slot = Slot::decode(&bytes, kind, owner).map_err(|found| Error::UnknownFormat {
                path: path.to_owned(),
                found,
                known: FORMAT,
            })?;
            newest = match (newest, slot) {
                (Some(a), Some(b)) => Some(if a.counter >= b.counter { a } else { b }),
                (a, b) => a.or(b),
            };
        }
        newest.ok_or_else(|| Error::DamagedFile { path: path.to_owned(), reason: "neither slot is valid" })
    }

    /// What was saved last.
    pub(crate) fn load(&self) -> Option<Payload> {
        self.newest.payload
    }

    /// Saves; durable at return. After an error nothing is ever written here again.
    pub(crate) fn save(&mut self, payload: Payload) -> Result<(), Error> {
        if let Some(cause) = &self.failed {
            return Err(Error::Poisoned(Arc::clone(cause)));
        }
        let slot = Slot { counter: self.newest.counter + 1, payload: Some(payload) };
        match self.write(slot) {
            Ok(()) => {
                self.newest = slot;
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                self.failed = Some(Arc::clone(&error));
                Err(Error::Poisoned(error))
            }
        }
    }

    fn write(&self, slot: Slot) -> Result<(), Error> {
        let bytes = slot.encode(self.kind, &self.owner);
        let at = slot.counter % 2 * SLOT_DISTANCE_BYTES;
        self.file.write_all_at(&bytes, at).map_err(Error::io("write", &self.path))?;
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_model::ids::ShardId;

    const KIND: Kind = Kind { magic: *b"PMXX", name: "x" };

    fn owner() -> Owner {
        Owner { cluster: [7; 16], shard: ShardId(3) }
    }

    #[test]
    fn slot_round_trip() {
        for payload in [None, Some([9; PAYLOAD_BYTES])] {
            let slot = Slot { counter: 77, payload };
            assert_eq!(Slot::decode(&slot.encode(KIND, &owner()), KIND, &owner()), Ok(Some(slot)));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_no_slot() {
        let good = Slot { counter: 77, payload: Some([9; PAYLOAD_BYTES]) }.encode(KIND, &owner());
        for bit in 0..SLOT_BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Slot::decode(&bad, KIND, &owner()), Ok(None), "bit {bit}");
        }
        for length in 0..SLOT_BYTES {
            let mut bad = good;
            bad[length..].fill(0);
            if bad != good {
                assert_eq!(Slot::decode(&bad, KIND, &owner()), Ok(None), "length {length}");
            }
        }
    }

    #[test]
    fn a_slot_of_another_owner_or_kind_is_no_slot() {
        let good = Slot { counter: 77, payload: None }.encode(KIND, &owner());
        let other = Owner { shard: ShardId(4), ..owner() };
        assert_eq!(Slot::decode(&good, KIND, &other), Ok(None));
        assert_eq!(Slot::decode(&good, Kind { magic: *b"PMYY", ..KIND }, &owner()), Ok(None));
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let mut newer = Slot { counter: 1, payload: None }.encode(KIND, &owner());
        newer[4] = 2;
        let crc = owner().crc(&newer[..CRC_AT]);
        newer[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Slot::decode(&newer, KIND, &owner()), Err(2));
    }
}
