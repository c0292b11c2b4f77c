//! Record kinds. Numbers only grow; `FORMATS.md`, Commands.

/// A message becomes visible.
pub const PUBLISH: u8 = 1;
/// A message is kept and not visible yet: delayed, or half of a transaction.
pub const PUBLISH_PARKED: u8 = 2;
/// A message becomes visible again or at last; its head names the record it comes from.
pub const PUBLISH_FROM: u8 = 3;
/// Leases end: acked, nacked.
pub const SETTLE: u8 = 4;
/// Leases ran out.
pub const EXPIRE: u8 = 5;
/// Leases of a group that keeps order.
pub const GRANT: u8 = 6;
/// A filter refused a range of offsets.
pub const SKIP: u8 = 7;
/// A transaction gets its verdict.
pub const TRANSACTION_RESOLVE: u8 = 8;
/// A transaction was asked about and stays open.
pub const TRANSACTION_CHECKED: u8 = 9;
/// A delayed message is cancelled, or due at another time.
pub const TIMER_CHANGE: u8 = 10;
/// A group's positions move.
pub const SEEK: u8 = 11;
/// All stored messages of a topic go.
pub const PURGE: u8 = 12;
/// The first offsets of queues move, and old segments may go.
pub const TRIM: u8 = 13;
/// A configuration object is created or replaced.
pub const CONFIG_PUT: u8 = 14;
/// A configuration object goes.
pub const CONFIG_DELETE: u8 = 15;
/// A piece of a plugin component.
pub const PLUGIN_CHUNK: u8 = 16;
/// A plugin version becomes usable.
pub const PLUGIN_COMMIT: u8 = 17;
/// Dead letters are deleted, or given to their group again.
pub const DEAD_LETTER_CHANGE: u8 = 20;
/// A run of a schedule: the first record of a unit with its message, or alone if it came to nothing.
pub const SCHEDULE_RAN: u8 = 21;
