//! Every bound of Pointsman, in one file. Units come last in the names.
//!
//! Source: `PROMISES.md`, Limits. Each bound has a test one below, at, and one above.

/// Longest name a client may choose, in bytes.
pub const NAME_BYTES_MAX: usize = 127;
/// Default largest message body of a topic, in bytes.
pub const MESSAGE_BYTES_DEFAULT: u32 = 4 << 20;
/// Largest value of a topic's `max_message_bytes`.
pub const MESSAGE_BYTES_CAP: u32 = 16 << 20;
/// Most properties of one message.
pub const PROPERTIES_MAX: usize = 64;
/// Most UTF-8 bytes of all property names and values of one message.
pub const PROPERTIES_BYTES_MAX: usize = 16 << 10;
/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 128;
/// Most keys of one message.
pub const KEYS_MAX: usize = 16;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// Longest ordering key, in bytes.
pub const ORDERING_KEY_BYTES_MAX: usize = 256;
/// Longest content type, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// Longest `traceparent`, in bytes.
pub const TRACE_BYTES_MAX: usize = 256;
/// Highest priority.
pub const PRIORITY_MAX: u8 = 9;
/// Most messages of one batch or transaction.
pub const BATCH_MESSAGES_MAX: usize = 1_000;
/// Most payload bytes of one batch or transaction.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// Default retention of a topic.
pub const RETENTION_MS_DEFAULT: u64 = 7 * 24 * 3_600_000;
/// Default cap on a topic's retention (setting `retention_ms_max`).
pub const RETENTION_MS_MAX_DEFAULT: u64 = 365 * 24 * 3_600_000;
/// Default number of queues of a topic.
pub const QUEUES_DEFAULT: u16 = 4;
/// Most queues of a topic.
pub const QUEUES_MAX: u16 = 1_024;
/// Ordering-key slots of a topic.
pub const KEY_SLOTS: u16 = 4_096;
/// Longest TTL: one year.
pub const TTL_MS_MAX: u64 = 365 * 24 * 3_600_000;
/// Default lease time.
pub const LEASE_MS_DEFAULT: u64 = 30_000;
/// Shortest lease a client may ask for.
pub const LEASE_MS_MIN: u64 = 1;
/// Longest a lease may live, extensions included.
pub const LEASE_MS_MAX: u64 = 12 * 3_600_000;
/// Default messages of one lease call.
pub const LEASE_MESSAGES_DEFAULT: u32 = 32;
/// Most messages of one lease call.
pub const LEASE_MESSAGES_MAX: u32 = 1_000;
/// Default body bytes of one lease call.
pub const LEASE_BYTES_DEFAULT: u32 = 4 << 20;
/// Most body bytes of one lease call.
pub const LEASE_BYTES_MAX: u32 = 16 << 20;
/// Longest long poll.
pub const WAIT_MS_MAX: u64 = 60_000;
/// Offsets a group may lease past its floor in one queue.
pub const LEASE_WINDOW_OFFSETS: u64 = 65_536;
/// How often leases are looked at for having run out.
pub const LEASE_TICK_MS: u64 = 100;
/// Messages of a group that are judged ahead and wait for a lease call: past half of it nothing more is judged.
pub const LEASE_AHEAD_MESSAGES: usize = 256;
/// How often the offsets that a filter refused are settled, at most, without an ack.
pub const SKIP_INTERVAL_MS: u64 = 1_000;
/// How long a group whose filter failed waits under the policy `pause` before it asks again.
pub const FILTER_PAUSE_MS: u64 = 1_000;
/// How often a waiting lease call looks whether something is due again, where nobody tells it.
pub const RETRY_POLL_MS: u64 = 1_000;
/// Answers of lease calls with an idempotency key that a group remembers.
pub const LEASE_REPLAYS_MAX: usize = 1_024;
/// Default retries of a group.
pub const RETRIES_DEFAULT: u16 = 16;
/// Most retries of a group.
pub const RETRIES_MAX: u16 = 1_000;
/// Default leases in flight of a group.
pub const INFLIGHT_DEFAULT: u32 = 1_000;
/// Most leases in flight of a group.
pub const INFLIGHT_MAX: u32 = 100_000;
/// Messages a group's retry set may hold before the group pauses.
pub const RETRY_SET_MAX: u64 = 1_000_000;
/// Messages that a group of ordering `key` or `queue` may hold, leased or waiting for another attempt, before it leases
/// nothing new.
pub const HELD_MAX: u64 = 131_072;
/// Messages that wait in the lanes of a group of ordering `key` or `queue`: past it nothing more is judged.
pub const ORDERED_WAITING_MAX: usize = 262_144;
/// Most topics of one group.
pub const GROUP_TOPICS_MAX: usize = 64;
/// Default retention of a dead-letter queue.
pub const DLQ_RETENTION_MS_DEFAULT: u64 = 3 * 24 * 3_600_000;
/// Dead letters that one redrive of all takes along; the answer says if there are more.
pub const REDRIVE_MAX: usize = 10_000;
/// Offsets of a group's queues that one lag call judges by their filters; the rest counts as passing.
pub const LAG_JUDGED_MAX: usize = 65_536;
/// Rows of a queue's retry set that one lag call counts.
pub const LAG_RETRIES_MAX: usize = 65_536;
/// Members of a group that a leader remembers.
pub const MEMBERS_MAX: usize = 1_000;
/// How long a member that leases no more is shown.
pub const MEMBER_SEEN_MS: u64 = 300_000;
/// Longest delay of a message, a nack or a release: one year.
pub const DELAY_MS_MAX: u64 = 365 * 24 * 3_600_000;
/// Delayed messages that become visible by one entry, at most.
pub const TIMER_ENTRY_MESSAGES_MAX: usize = 1_000;
/// Their payload bytes, unless a single one is larger.
pub const TIMER_ENTRY_BYTES_MAX: usize = 4 << 20;
/// How long a leader waits at most before it looks for delayed messages that are due.
pub const TIMER_POLL_MS: u64 = 250;
/// How long it waits after it could not make all of them visible.
pub const TIMER_RETRY_MS: u64 = 100;
/// Most schedules of one tenant.
pub const SCHEDULES_MAX: usize = 1_000;
/// Largest payload of a schedule's message.
pub const SCHEDULE_BODY_BYTES_MAX: usize = 64 << 10;
/// Longest cron expression and longest name of a time zone.
pub const SCHEDULE_TEXT_BYTES_MAX: usize = 256;
/// Timers read for one page of a list at most.
pub const TIMER_PAGE_ROWS_MAX: usize = 10_000;
/// Default dedup window.
pub const DEDUP_WINDOW_MS_DEFAULT: u64 = 600_000;
/// Longest dedup window.
pub const DEDUP_WINDOW_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// Longest idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
/// Default time from a prepared transaction to its first check.
pub const CHECK_AFTER_MS_DEFAULT: u64 = 6_000;
/// Default time between two checks of a transaction, and from the last one to its end.
pub const CHECK_INTERVAL_MS_DEFAULT: u64 = 30_000;
/// Default checks of a transaction before it expires.
pub const CHECKS_DEFAULT: u16 = 15;
/// Most checks of a transaction.
pub const CHECKS_MAX: u16 = 1_000;
/// How long a resolved transaction is remembered, and how long an operator may overrule the end of an expired one.
pub const TRANSACTION_KEPT_MS: u64 = 3 * 24 * 3_600_000;
/// Old transactions that each new one forgets.
pub const TRANSACTIONS_FORGOTTEN_MAX: usize = 2;
/// Transactions that one page of a list looks at.
pub const TRANSACTIONS_VISITED_MAX: usize = 10_000;
/// Checks that fell due and are seen to at once.
pub const CHECKS_AT_ONCE_MAX: usize = 1_000;
/// Checks of one tenant that wait for a producer of their group; the oldest goes first.
pub const CHECKS_WAITING_MAX: usize = 10_000;
/// Default checks of one lease call.
pub const CHECKS_LEASED_DEFAULT: u32 = 32;
/// Users that a refused delete of a topic names, of the transactions among them.
pub const USERS_NAMED_MAX: usize = 10;
/// Plugins asked about transactions at once, on one shard.
pub const CHECK_BACKS_AT_ONCE_MAX: usize = 64;
/// Time that a request of a check-back plugin has, from the name look-up to the last byte.
pub const OUTSIDE_MS_MAX: u64 = 5_000;
/// Longest idempotency key as it is stored: that of message i of many is `{key}/{i}`.
pub const IDEMPOTENCY_KEY_STORED_BYTES_MAX: usize = IDEMPOTENCY_KEY_BYTES_MAX + 21;
/// Live dedup keys of one topic; past it a message with a new key is refused. A key is never forgotten early.
pub const DEDUP_KEYS_MAX: u64 = 10_000_000;
/// Dedup keys of one list of those that are forgotten together.
pub const DEDUP_LIST_KEYS_MAX: usize = 256;
/// Dedup rows of a deleted topic that one entry takes away, of each table.
pub const DEDUP_SWEEP_ROWS_MAX: usize = 256;
/// Longest `client_id`.
pub const CLIENT_ID_BYTES_MAX: usize = 256;
/// Longest reason of a nack.
pub const REASON_BYTES_MAX: usize = 1_024;
/// Items of one settle call.
pub const SETTLE_ITEMS_MAX: usize = 1_000;
/// JSON bodies other than publishing.
pub const CONTROL_BODY_BYTES_MAX: usize = 1 << 20;
/// Publish bodies are read up to here.
pub const PUBLISH_BODY_BYTES_MAX: usize = 32 << 20;
/// Deepest JSON, counting the body's own level as 1.
pub const JSON_DEPTH_MAX: usize = 64;
/// Characters of input quoted in an error.
pub const ERROR_QUOTE_CHARS_MAX: usize = 500;
/// Default deadline of a call.
pub const TIMEOUT_MS_DEFAULT: u64 = 10_000;
/// Longest deadline of a call.
pub const TIMEOUT_MS_MAX: u64 = 60_000;
/// Items of a list page by default.
pub const PAGE_ITEMS_DEFAULT: u32 = 100;
/// Most items of a list page.
pub const PAGE_ITEMS_MAX: u32 = 1_000;
/// Tokens of one tenant that are not revoked.
pub const TOKENS_PER_TENANT_MAX: usize = 1_000;
/// Revoked tokens of one tenant that are remembered as such.
pub const TOKENS_REVOKED_KEPT: usize = 1_000;
/// Scopes of one token.
pub const TOKEN_SCOPES_MAX: usize = 64;
/// Longest bearer token worth looking at.
pub const TOKEN_BYTES_MAX: usize = 512;
/// Fewest characters of the token in an operator token file.
pub const OPERATOR_TOKEN_CHARS_MIN: usize = 16;
/// How long a stream ticket is good.
pub const TICKET_MS: u64 = 60_000;
/// Stream tickets that are out at once.
pub const TICKETS_MAX: usize = 10_000;
/// Audit rows of one tenant; the oldest go first.
pub const AUDIT_ROWS_PER_TENANT_MAX: u64 = 10_000;
/// Open streams of one tenant.
pub const STREAMS_PER_TENANT_MAX: usize = 100;
/// Open streams of one node.
pub const STREAMS_PER_NODE_MAX: usize = 1_000;
/// Default leases in flight of a group stream.
pub const STREAM_INFLIGHT_DEFAULT: u32 = 32;
/// Most leases in flight of a group stream.
pub const STREAM_INFLIGHT_MAX: u32 = 1_000;
/// How long leases run on that were written to a group stream whose client hung up.
pub const STREAM_HANGUP_MS: u64 = 5_000;
/// How often a stream at the tail looks for new messages where nobody tells it.
pub const STREAM_POLL_MS: u64 = 1_000;
/// Queue entries a stream reads ahead in one queue.
pub const STREAM_AHEAD_ENTRIES: usize = 64;
/// Bytes of a stream not yet written to its socket.
pub const STREAM_UNSENT_BYTES_MAX: usize = 256 << 10;
/// Bytes of request headers.
pub const REQUEST_HEADER_BYTES_MAX: usize = 16 << 10;
/// Request headers of one request.
pub const REQUEST_HEADERS_MAX: usize = 128;
/// Time a client has to send its request headers, and idle keep-alive time.
pub const REQUEST_HEADER_MS_MAX: u64 = 10_000;
/// Time between two pieces of a request body.
pub const REQUEST_BODY_IDLE_MS_MAX: u64 = 30_000;
/// Unfinished request bodies of one node.
pub const REQUEST_BODIES_BYTES_MAX: usize = 256 << 20;
/// Open connections of one node.
pub const CONNECTIONS_MAX: usize = 16_384;

/// Largest plugin component.
pub const PLUGIN_BYTES_DEFAULT: u32 = 4 << 20;
/// Cap of a tenant's largest plugin component.
pub const PLUGIN_BYTES_CAP: u32 = 32 << 20;
/// Longest plugin config.
pub const PLUGIN_CONFIG_BYTES_MAX: usize = 64 << 10;
/// Fuel of a plugin call, before the messages.
pub const PLUGIN_FUEL_BASE: u64 = 10_000_000;
/// Fuel of a plugin call for each message.
pub const PLUGIN_FUEL_PER_MESSAGE: u64 = 200_000;
/// Ceiling of a binding's fuel base.
pub const PLUGIN_FUEL_CAP: u64 = 1_000_000_000;
/// Wall-clock time of a plugin call.
pub const PLUGIN_WALL_MS_DEFAULT: u32 = 50;
/// Ceiling of a binding's wall time.
pub const PLUGIN_WALL_MS_CAP: u32 = 1_000;
/// Linear memory of a plugin instance.
pub const PLUGIN_MEMORY_BYTES_DEFAULT: u32 = 16 << 20;
/// Ceiling of a binding's memory.
pub const PLUGIN_MEMORY_BYTES_CAP: u32 = 256 << 20;
/// Fields a plugin may ask for.
pub const PLUGIN_FIELDS_MAX: usize = 64;
/// Tags a plugin may hint.
pub const PLUGIN_TAGS_MAX: usize = 1_024;
/// Destinations a selector may declare.
pub const PLUGIN_DESTINATIONS_MAX: usize = 64;
/// Targets a selector may name for one message.
pub const PLUGIN_TARGETS_MAX: usize = 64;
/// Longest log line of a plugin.
pub const PLUGIN_LOG_LINE_BYTES_MAX: usize = 1_024;
/// Log lines kept for one binding.
pub const PLUGIN_LOG_LINES_MAX: usize = 256;
/// Messages of one judging call.
pub const JUDGE_MESSAGES_MAX: usize = 256;
/// Column bytes of one judging call.
pub const JUDGE_COLUMN_BYTES_MAX: usize = 256 << 10;
/// Elements of all tables of a plugin instance.
pub const PLUGIN_TABLE_ELEMENTS_MAX: usize = 20_000;
/// Core instances, memories and tables of one plugin instance, each.
pub const PLUGIN_PARTS_MAX: usize = 16;
/// Stack of a plugin call.
pub const PLUGIN_STACK_BYTES_MAX: usize = 256 << 10;
/// Bytes the host copies out of a plugin for one call: answers, words of failures, log lines.
pub const PLUGIN_ANSWER_BYTES_MAX: usize = 4 << 20;
/// Log lines of one plugin call; more are dropped.
pub const PLUGIN_LOG_LINES_PER_CALL_MAX: u32 = 32;
/// Characters kept of a plugin's words about a failure or a refused config.
pub const PLUGIN_WORDS_CHARS_MAX: usize = 500;
/// Wall-clock time of `init`, in multiples of a call's.
pub const PLUGIN_INIT_WALL_FACTOR: u32 = 4;
/// Calls after which an instance is renewed.
pub const PLUGIN_INSTANCE_CALLS_MAX: u32 = 10_000;
/// Instances one worker keeps; the one unused longest goes first.
pub const PLUGIN_INSTANCES_PER_WORKER_MAX: usize = 1_024;
/// One call in so many is judged again, one message at a time.
pub const PLUGIN_AUDIT_CALLS: u64 = 1_000;
/// Calls in a row without one judged message after which a breaker opens.
pub const PLUGIN_BREAKER_FAILURES: u32 = 5;
/// Shortest time a breaker stays open; doubles each time its trial fails.
pub const PLUGIN_BREAKER_OPEN_MS_MIN: u64 = 1_000;
/// Longest time a breaker stays open.
pub const PLUGIN_BREAKER_OPEN_MS_MAX: u64 = 60_000;
/// Good calls after which a binding that timed out leaves the low-priority thread.
pub const PLUGIN_SLOW_CALLS: u32 = 16;
/// Plugin calls waiting for a worker; one tenant holds at most half.
pub const PLUGIN_WAITING_MAX: usize = 4_096;
/// Components waiting to be compiled.
pub const PLUGIN_COMPILES_WAITING_MAX: usize = 16;
/// Data segment and heap of the process that compiles a component.
pub const PLUGIN_COMPILE_DATA_BYTES_MAX: u64 = 1 << 30;
/// CPU time of the process that compiles a component.
pub const PLUGIN_COMPILE_CPU_S_MAX: u64 = 60;
/// Longest key that a dedup plugin may name.
pub const DEDUP_KEY_BYTES_MAX: usize = 256;
/// Outside requests of one check of a transaction.
pub const CHECK_REQUESTS_MAX: u32 = 4;
/// Longest wait that a check-back plugin may ask for.
pub const CHECK_INTERVAL_MS_MAX: u64 = 24 * 3_600_000;
/// Longest URL of an outside request.
pub const CHECK_URL_BYTES_MAX: usize = 2_048;
/// Headers of an outside request.
pub const CHECK_HEADERS_MAX: usize = 32;
/// Names and values of an outside request's headers.
pub const CHECK_HEADERS_BYTES_MAX: usize = 8 << 10;
/// Body of an outside request, and what is kept of a response's.
pub const CHECK_BODY_BYTES_MAX: usize = 64 << 10;
/// Piece of a plugin component in one record.
pub const PLUGIN_CHUNK_BYTES: usize = 256 << 10;

/// Default size of a segment file, header included.
pub const SEGMENT_BYTES_DEFAULT: u64 = 256 << 20;
/// Smallest `segment_bytes` the setting accepts.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// Smallest segment the storage crate accepts (tests).
pub const SEGMENT_BYTES_FLOOR: u64 = 16 << 10;
/// Bytes an entry aims at.
pub const ENTRY_BYTES_TARGET: usize = 64 << 10;
/// Payload bytes of one entry at most, heads not counted.
pub const ENTRY_BYTES_MAX: usize = 16 << 20;
/// Records of one entry at most (`Ordinal` is a u16).
pub const ENTRY_RECORDS_MAX: usize = 4_096;
/// Longest frame of the log: payload, heads and framing of the largest entry.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// Bytes of one group commit at most, unless a single frame is longer.
pub const GROUP_COMMIT_BYTES_MAX: usize = 8 << 20;
/// Bytes zeroed ahead in one step.
pub const ZERO_STEP_BYTES_MAX: usize = 1 << 20;
/// Bytes of frames between two marks of a segment's position index.
pub const MARK_SPACING_BYTES: u64 = 64 << 10;
/// Default size of the log's tail cache.
pub const TAIL_CACHE_BYTES_DEFAULT: usize = 64 << 20;
/// Proposed bytes of a shard not yet answered.
pub const SHARD_INFLIGHT_BYTES_MAX: usize = 64 << 20;
/// Publishes of a topic waiting to be judged.
pub const TOPIC_WAITING_MAX: usize = 8_192;
/// Entries between two outcome-hash exchanges.
pub const OUTCOME_HASH_ENTRIES: u64 = 4_096;
/// Largest head of a request or answer that is forwarded between nodes.
pub const FORWARD_HEAD_BYTES_MAX: usize = 64 << 10;
/// Largest question between the brokers of two nodes, and its answer.
pub const NODE_CALL_BYTES_MAX: usize = 256 << 10;
/// How long a node may take to tell another how its shards are.
pub const NODE_STATUS_MS_MAX: u64 = 1_000;
/// How long a call waits for a leader before it is 503 `no-leader`.
pub const NO_LEADER_MS: u64 = 1_500;
/// How much longer than its deadline a node waits for the answer to a forwarded request.
pub const FORWARD_GRACE_MS: u64 = 500;
/// Longest answer to a forwarded request that is taken whole before it is passed on.
pub const FORWARD_ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Most users of a tenant that another node is told of.
pub const USERS_TOLD_MAX: usize = 1_000;
/// Entries that a node may be behind and still call itself ready.
pub const READY_LAG_ENTRIES_MAX: u64 = 8_192;
/// Longest request id, in characters.
pub const REQUEST_ID_CHARS_MAX: usize = 64;
/// How often a stale decision is taken again before 503.
pub const STALE_RETRIES_MAX: u32 = 3;
/// Slewing of stamps towards the wall clock, ms per second.
pub const STAMP_SLEW_MS_PER_S: u64 = 5;
/// Nodes of a cluster.
pub const NODES_MAX: usize = 64;
/// Bytes of an address of a node, `host:port`.
pub const NODE_ADDRESS_BYTES_MAX: usize = 300;
/// Data shards of a cluster.
pub const DATA_SHARDS_MAX: u16 = 64;
/// Data shards of a cluster that says nothing; a node alone has one.
pub const DATA_SHARDS_CLUSTER_DEFAULT: u16 = 3;

/// Body of a frame between nodes at most: the longest log frame and what is said around it.
pub const PEER_FRAME_BYTES_MAX: usize = FRAME_BYTES_MAX + (1 << 20);
/// Body of a frame on the control connection at most.
pub const PEER_CONTROL_BYTES_MAX: usize = 1 << 20;
/// A node's hello at most.
pub const PEER_HELLO_BYTES_MAX: usize = 8 << 10;
/// What formation may say in a hello.
pub const PEER_NOTE_BYTES_MAX: usize = 4 << 10;
/// A refusal's words at most.
pub const PEER_REFUSAL_BYTES_MAX: usize = 1 << 10;
/// Time for everything before the end of the hello, TLS included.
pub const PEER_HELLO_MS: u64 = 5_000;
/// How long one attempt to connect may take.
pub const PEER_CONNECT_MS: u64 = 2_000;
/// Connections that have not said hello yet.
pub const PEER_STRANGERS_MAX: usize = 64;
/// Pause before the first new attempt to connect; doubles.
pub const PEER_BACKOFF_MS_MIN: u64 = 50;
/// Longest pause between two attempts to connect.
pub const PEER_BACKOFF_MS_MAX: u64 = 1_000;
/// How often a connection is pinged.
pub const PEER_PING_MS: u64 = 1_000;
/// Silence, or a write that does not get on, after which a connection is closed.
pub const PEER_SILENCE_MS: u64 = 5_000;
/// Time for what is queued to leave when a connection is closed by its owner.
pub const PEER_LINGER_MS: u64 = 500;
/// How often a leader looks for messages whose retention is over.
pub const RETENTION_POLL_MS: u64 = 10_000;
/// How soon it looks again where it left some for the next time.
pub const RETENTION_AGAIN_MS: u64 = 100;
/// Queue entries that one look reads to find what is over.
pub const TRIM_ENTRIES_MAX: usize = 65_536;
/// Queues that one `trim` record moves.
pub const TRIM_QUEUES_MAX: usize = 4_096;
/// Segments that one `trim` record gives up.
pub const TRIM_SEGMENTS_MAX: usize = 256;
/// Rows of segments that are gone which one `trim` record removes.
pub const TRIM_SWEEP_ROWS: usize = 4_096;
/// Rows of one message that is carried which one record moves; more stay for the next.
pub const CARRY_REFERRERS_MAX: usize = 64;
/// Messages that one look carries.
pub const CARRY_MESSAGES_MAX: usize = 1_024;
/// Bytes of records that one look carries, unless a single one is larger.
pub const CARRY_BYTES_MAX: usize = 4 << 20;
/// What is owed in old segments is carried once it is less than this part of them.
pub const CARRY_PART: u64 = 4;
/// How long after a checkpoint the next one is due at the next segment.
pub const CHECKPOINT_MS: u64 = 600_000;
/// Or once so large a part of the retained bytes was appended since.
pub const CHECKPOINT_PART: u64 = 16;
/// Calls in flight of one connection.
pub const PEER_CALLS_MAX: usize = 1_024;
/// Bytes of the calls of one connection that are being served, unless it is one.
pub const PEER_CALLS_BYTES_MAX: usize = 256 << 20;
/// Large calls of one connection that are served at a time, until their answers have left.
pub const PEER_BULK_CALLS_AT_ONCE: usize = 32;
/// Forwarded requests of one connection.
pub const PEER_FORWARDS_MAX: usize = 8_192;
/// Head of a forwarded request or of its answer at most.
pub const PEER_HEAD_BYTES_MAX: usize = 128 << 10;
/// Bytes of a forwarded body on their way, each direction.
pub const PEER_CREDIT_BYTES: usize = 256 << 10;
/// Piece of a forwarded body in one frame.
pub const PEER_CHUNK_BYTES_MAX: usize = 64 << 10;
/// What a piece of a forwarded body counts at least.
pub const PEER_CHUNK_COST_BYTES_MIN: usize = 256;
/// Replication streams of one connection.
pub const PEER_STREAMS_MAX: usize = 256;
/// Unanswered requests of a replication stream.
pub const PEER_STREAM_FRAMES_MAX: usize = 64;
/// Bytes of them, unless it is one.
pub const PEER_STREAM_BYTES_MAX: usize = 8 << 20;
/// Queued bytes of a connection above which streams and bodies wait.
pub const PEER_QUEUE_BYTES: usize = 1 << 20;
/// Queued frames of a connection above which it is closed.
pub const PEER_QUEUE_FRAMES_MAX: usize = 64 << 10;

/// Entries of one append between replicas, far above what openraft is told to send.
pub const APPEND_ENTRIES_MAX: usize = 16 << 10;
/// Record bytes of one answer to a replica that repairs its log; one entry is always given.
pub const REPAIR_BYTES_MAX: usize = 1 << 20;
/// Entries of one such answer.
pub const REPAIR_ENTRIES_MAX: u64 = 4_096;
/// Rows that the retention loop looks at to find out how much of a segment is owed.
pub const OWED_ROWS_MAX: usize = 65_536;
/// Longest text that may be a stream ticket.
pub const TICKET_BYTES_MAX: usize = 64;
/// Bodies up to this size are read before the handler of the entry node runs, so that it may run twice.
pub const RETRIED_BODY_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(INFLIGHT_MAX as u64 <= HELD_MAX && HELD_MAX <= RETRY_SET_MAX);
const _: () = assert!(MESSAGE_BYTES_DEFAULT <= MESSAGE_BYTES_CAP);
const _: () = assert!(MESSAGE_BYTES_CAP as usize <= ENTRY_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX <= ENTRY_BYTES_MAX);
const _: () = assert!(ENTRY_BYTES_TARGET <= ENTRY_BYTES_MAX);
const _: () = assert!(TIMER_ENTRY_BYTES_MAX <= ENTRY_BYTES_MAX && TIMER_ENTRY_MESSAGES_MAX <= ENTRY_RECORDS_MAX);
const _: () = assert!(ENTRY_BYTES_MAX < FRAME_BYTES_MAX && FRAME_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(BATCH_MESSAGES_MAX <= ENTRY_RECORDS_MAX);
const _: () = assert!(ENTRY_RECORDS_MAX <= u16::MAX as usize);
const _: () = assert!(SEGMENT_BYTES_FLOOR <= SEGMENT_BYTES_MIN && SEGMENT_BYTES_MIN <= SEGMENT_BYTES_DEFAULT);
const _: () = assert!(LEASE_MS_MIN <= LEASE_MS_DEFAULT && LEASE_MS_DEFAULT <= LEASE_MS_MAX);
const _: () = assert!(PUBLISH_BODY_BYTES_MAX > BATCH_BYTES_MAX);
const _: () = assert!(PEER_NOTE_BYTES_MAX < PEER_HELLO_BYTES_MAX && PEER_HELLO_BYTES_MAX < PEER_CONTROL_BYTES_MAX);
const _: () = assert!(PEER_FRAME_BYTES_MAX > FRAME_BYTES_MAX && PEER_FRAME_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(PEER_CHUNK_COST_BYTES_MIN <= PEER_CHUNK_BYTES_MAX && PEER_CHUNK_BYTES_MAX < PEER_CREDIT_BYTES);
const _: () = assert!(PEER_HEAD_BYTES_MAX <= PEER_FRAME_BYTES_MAX);
const _: () = assert!(PEER_PING_MS * 2 < PEER_SILENCE_MS && PEER_BACKOFF_MS_MIN <= PEER_BACKOFF_MS_MAX);
