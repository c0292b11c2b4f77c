//! What is undecided at a moment, and which decisions are worth a try.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::world::{Inode, Node, OpKind, SECTOR_BYTES, World};

/// One thing a power cut decides. Choice 0 is the durable value, choice n the value after its n-th operation.
#[derive(Clone, Debug)]
pub struct Atom {
    what: What,
    ops: Vec<u64>,
    /// A failed sync left it undecided for ever.
    lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Sector(u64, u64),
    Len(u64),
    Mode(u64),
    Entry(u64),
}

/// How a power cut decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nothing since the last sync survives.
    None,
    /// All does.
    All,
    /// The disk stopped behind this operation.
    UpTo(u64),
    /// This operation alone is missing.
    Without(u64),
    /// This operation alone survives.
    Only(u64),
    /// The last write stopped behind so many of its sectors; all before it is there.
    TornAt(usize),
    /// The last write's first sectors are missing; all before it is there.
    TornBefore(usize),
    /// The bits of a number, one for each atom.
    Subset(u64),
    /// Whole 4 KiB pages, by a seed.
    Pages(u64),
    /// Anything, by a seed. Odd seeds find old contents in recycled blocks.
    Random(u64),
}

/// The rows of the table of what a crash may leave. Each must have been tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// Some sectors of one write are there, others not.
    TornWrite,
    /// A later write to a file is there, an earlier one not.
    Reordered,
    /// A sector written twice has its first version.
    BetweenVersions,
    /// Of two files, one kept what was written and the other did not.
    TwoFiles,
    /// A file's size grew and its data did not come, or the other way round.
    PastEnd,
    /// A reservation is lost.
    ReserveLost,
    /// A new file has no name.
    CreateMissing,
    /// A new file has a name and no bytes.
    CreateEmpty,
    /// A rename is undone.
    RenameUndone,
    /// An unlinked file is back.
    UnlinkUndone,
    /// A new directory is missing.
    DirMissing,
    /// Two directories had changes, and one of them lost its own.
    TwoDirs,
    /// Old contents show in recycled blocks.
    Recycled,
    /// A sync had failed, and some of what it should have kept is missing.
    SyncFailed,
    /// Everything was synced.
    Synced,
}

impl Row {
    /// All rows.
    pub const ALL: [Self; 15] = [
        Self::TornWrite,
        Self::Reordered,
        Self::BetweenVersions,
        Self::TwoFiles,
        Self::PastEnd,
        Self::ReserveLost,
        Self::CreateMissing,
        Self::CreateEmpty,
        Self::RenameUndone,
        Self::UnlinkUndone,
        Self::DirMissing,
        Self::TwoDirs,
        Self::Recycled,
        Self::SyncFailed,
        Self::Synced,
    ];
}

/// The decisions worth a try at a moment: all, if few are possible, else the structured ones and `random` others.
#[must_use]
pub fn choices(atoms: &[Atom], kinds_seed: u64, random: u64) -> Vec<Choice> {
    const SUBSET_ATOMS_MAX: usize = 4;
    if atoms.is_empty() {
        return vec![Choice::None];
    }
    let mut out = vec![Choice::None, Choice::All];
    let single = atoms.iter().all(|atom| atom.ops.len() == 1);
    if single && atoms.len() <= SUBSET_ATOMS_MAX {
        out.extend((1..(1 << atoms.len()) - 1).map(Choice::Subset));
        return out;
    }
    let ops: BTreeSet<u64> = atoms.iter().flat_map(|atom| atom.ops.iter().copied()).collect();
    for op in &ops {
        out.extend([Choice::UpTo(*op), Choice::Without(*op), Choice::Only(*op)]);
    }
    let last_sectors = ops.last().map_or(0, |last| atoms.iter().filter(|atom| atom.ops.last() == Some(last)).count());
    for sector in 1..last_sectors.min(8) {
        out.extend([Choice::TornAt(sector), Choice::TornBefore(sector)]);
    }
    for n in 0..random {
        let seed = kinds_seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(n);
        out.push(if n % 4 == 3 { Choice::Pages(seed) } else { Choice::Random(seed) });
    }
    out
}

impl World {
    /// Everything a power cut would decide now.
    #[must_use]
    pub fn atoms(&self) -> Vec<Atom> {
        let mut out = Vec::new();
        for (id, inode) in &self.inodes {
            for (sector, versions) in &inode.sectors {
                let lost = versions.iter().any(|version| version.lost);
                out.push(Atom { what: What::Sector(*id, *sector), ops: versions.iter().map(|v| v.op).collect(), lost });
            }
            if !inode.lens.is_empty() {
                out.push(Atom { what: What::Len(*id), ops: inode.lens.iter().map(|v| v.op).collect(), lost: false });
            }
            if !inode.modes.is_empty() {
                out.push(Atom { what: What::Mode(*id), ops: inode.modes.iter().map(|v| v.op).collect(), lost: false });
            }
        }
        for (id, dir) in &self.dirs {
            out.extend(dir.pending.iter().map(|(op, _)| Atom { what: What::Entry(*id), ops: vec![*op], lost: false }));
        }
        out
    }

    /// The disk after a power cut that decided so, and the rows of the table that show in it.
    #[must_use]
    pub fn crash(&self, atoms: &[Atom], choice: Choice) -> (Self, BTreeSet<Row>) {
        let picks = pick(atoms, choice);
        let recycle = matches!(choice, Choice::Random(seed) if seed % 2 == 1);
        let mut rows = rows(self, atoms, &picks);
        let mut world = self.clone();
        for (id, inode) in &mut world.inodes {
            let mine = atoms.iter().zip(&picks).filter(|(atom, _)| atom.inode() == Some(*id));
            let (after, recycled) = settle(inode, mine, recycle.then_some(&self.freed));
            if recycled {
                rows.insert(Row::Recycled);
            }
            *inode = Arc::new(after);
        }
        for (id, dir) in &mut world.dirs {
            let kept = |op| {
                atoms
                    .iter()
                    .zip(&picks)
                    .any(|(atom, pick)| atom.what == What::Entry(*id) && atom.ops[0] == op && *pick > 0)
            };
            let after = dir.after(kept);
            let dir = Arc::make_mut(dir);
            dir.pending.clear();
            (dir.durable, dir.seen) = (after.clone(), after);
        }
        (world, rows)
    }
}

impl Atom {
    const fn inode(&self) -> Option<u64> {
        match self.what {
            What::Sector(id, _) | What::Len(id) | What::Mode(id) => Some(id),
            What::Entry(_) => None,
        }
    }

    /// The greatest version for which `keep` holds of its operation.
    fn newest(&self, keep: impl Fn(u64) -> bool) -> usize {
        self.ops.iter().rposition(|op| keep(*op)).map_or(0, |at| at + 1)
    }
}

/// A version for every atom.
fn pick(atoms: &[Atom], choice: Choice) -> Vec<usize> {
    let last = atoms.iter().filter_map(|atom| atom.ops.last().copied()).max().unwrap_or(0);
    let mut torn = 0;
    let mut torn_keeps = |atom: &Atom, keep: &dyn Fn(usize) -> bool| {
        if atom.ops.last() != Some(&last) {
            return atom.ops.len();
        }
        torn += 1;
        if keep(torn) { atom.ops.len() } else { atom.newest(|op| op < last) }
    };
    let one = |(at, atom): (usize, &Atom)| match choice {
        Choice::None => 0,
        Choice::All => atom.ops.len(),
        Choice::UpTo(op) => atom.newest(|one| one <= op),
        Choice::Without(op) => atom.newest(|one| one != op),
        Choice::Only(op) => atom.newest(|one| one == op),
        Choice::TornAt(count) => torn_keeps(atom, &|n| n <= count),
        Choice::TornBefore(count) => torn_keeps(atom, &|n| n > count),
        Choice::Subset(bits) => usize::from(bits >> at & 1 == 1),
        Choice::Pages(seed) => {
            let place = match atom.what {
                What::Sector(id, sector) => id << 32 | (sector / 8),
                What::Len(id) | What::Mode(id) | What::Entry(id) => id << 32 | 0xFFFF_0000 | at as u64,
            };
            if mix(seed ^ place).is_multiple_of(2) { 0 } else { atom.ops.len() }
        }
        Choice::Random(seed) => (mix(seed ^ (at as u64) << 20) % (atom.ops.len() as u64 + 1)) as usize,
    };
    atoms.iter().enumerate().map(one).collect()
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}

/// A file as found after the cut, and whether recycled blocks show in it.
fn settle<'a>(
    inode: &Inode,
    picks: impl Iterator<Item = (&'a Atom, &'a usize)>,
    freed: Option<&std::collections::BTreeMap<u64, super::world::Sector>>,
) -> (Inode, bool) {
    let mut sectors = inode.durable.clone();
    let (mut len, mut read_only, mut recycled) = (inode.durable_len, inode.durable_read_only, false);
    for (atom, pick) in picks {
        match (atom.what, pick.checked_sub(1)) {
            (What::Sector(_, sector), Some(version)) => {
                sectors.insert(sector, Arc::clone(&inode.sectors[&sector][version].value));
            }
            // Blocks that were allocated since the last sync held something else before.
            (What::Sector(_, sector), None) if sector * SECTOR_BYTES as u64 >= inode.durable_len => {
                if let Some(old) = freed.and_then(|freed| freed.get(&sector)) {
                    sectors.insert(sector, Arc::clone(old));
                    recycled = true;
                }
            }
            (What::Len(_), Some(version)) => len = inode.lens[version].value,
            (What::Mode(_), Some(version)) => read_only = inode.modes[version].value,
            _ => {}
        }
    }
    sectors.retain(|sector, _| sector * (SECTOR_BYTES as u64) < len);
    if let Some(content) = sectors.get_mut(&(len / SECTOR_BYTES as u64)) {
        Arc::make_mut(content)[(len % SECTOR_BYTES as u64) as usize..].fill(0);
    }
    let after = Inode {
        durable: sectors.clone(),
        durable_len: len,
        durable_read_only: read_only,
        seen: sectors,
        len,
        read_only,
        ..Inode::default()
    };
    (after, recycled)
}

/// The rows of the table that a decision shows.
fn rows(world: &World, atoms: &[Atom], picks: &[usize]) -> BTreeSet<Row> {
    let mut out = BTreeSet::new();
    if atoms.is_empty() {
        out.insert(Row::Synced);
    }
    let all = || atoms.iter().zip(picks.iter().copied());
    let kept = |atom: &Atom, pick: usize| pick == atom.ops.len();
    let sectors = || all().filter(|(atom, _)| matches!(atom.what, What::Sector(..)));
    for (atom, pick) in all() {
        let kind = world.kinds.get(atom.ops[atom.ops.len() - 1] as usize);
        let gone = pick == 0;
        match (atom.what, kind) {
            (What::Sector(..), _) if pick > 0 && !kept(atom, pick) => out.insert(Row::BetweenVersions),
            (What::Len(id), Some(OpKind::Write(_))) => {
                let data = sectors().any(|(other, pick)| other.inode() == Some(id) && pick > 0);
                data == gone && out.insert(Row::PastEnd)
            }
            (What::Len(_), Some(OpKind::Reserve(_))) if gone => out.insert(Row::ReserveLost),
            (What::Entry(_), Some(OpKind::Create)) if gone => out.insert(Row::CreateMissing),
            (What::Entry(dir), Some(OpKind::Create)) => {
                is_empty_after(world, atoms, picks, dir, atom.ops[0]) && out.insert(Row::CreateEmpty)
            }
            (What::Entry(_), Some(OpKind::Rename)) if gone => out.insert(Row::RenameUndone),
            (What::Entry(_), Some(OpKind::Unlink)) if gone => out.insert(Row::UnlinkUndone),
            (What::Entry(_), Some(OpKind::CreateDir)) if gone => out.insert(Row::DirMissing),
            _ => false,
        };
        if atom.lost && gone {
            out.insert(Row::SyncFailed);
        }
        for (other, other_pick) in all() {
            match (atom.what, other.what) {
                (What::Sector(a, _), What::Sector(b, _)) if a == b => {
                    let (first, second) = (atom.ops[0], other.ops[0]);
                    if first == second && gone && other_pick > 0 {
                        out.insert(Row::TornWrite);
                    }
                    if first < second && gone && other_pick > 0 {
                        out.insert(Row::Reordered);
                    }
                }
                (What::Sector(a, _), What::Sector(b, _)) if a != b && gone && other_pick > 0 => {
                    out.insert(Row::TwoFiles);
                }
                (What::Entry(a), What::Entry(b)) if a != b && gone && other_pick > 0 => {
                    out.insert(Row::TwoDirs);
                }
                _ => {}
            }
        }
    }
    out
}

/// True if the file created by `op` is found without a byte.
fn is_empty_after(world: &World, atoms: &[Atom], picks: &[usize], dir: u64, op: u64) -> bool {
    let Some(dir) = world.dirs.get(&dir) else { return false };
    let created = dir.pending.iter().find_map(|(at, entry)| match entry {
        super::world::Entry::Add(_, Node::File(id)) if *at == op => Some(*id),
        _ => None,
    });
    let Some(id) = created else { return false };
    let durable = world.inodes.get(&id).map_or(0, |inode| inode.durable_len);
    let grown = atoms.iter().zip(picks).any(|(atom, pick)| atom.what == What::Len(id) && *pick > 0);
    durable == 0 && !grown
}
