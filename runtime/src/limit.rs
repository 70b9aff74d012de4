//! Every bound of the system, one constant a line: the unit is in the name, the reason in the doc.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// ---- names

/// A channel's name: it stands in URLs, log lines and metric labels.
pub const CHANNEL_NAME_BYTES_MAX: usize = 64;

/// A SHA-256 in hexadecimal digits, as a channel's pin is noted: anything else in the note's place is none.
pub const DIGEST_BYTES: usize = 64;
/// The beginning of a SHA-256, in hexadecimal digits, where a person is to tell two components apart.
pub const DIGEST_SHOWN_BYTES: usize = 12;

// ---- what an operator asks for

/// Rows of one list, where the operator asks for more.
pub const OPERATOR_ROWS_MAX: usize = 500;
/// Rows of one list, where the operator does not say.
pub const OPERATOR_ROWS_DEFAULT: usize = 50;
/// Stored text behind one list: a list is cut short rather than read megabytes of answers into memory.
pub const OPERATOR_BYTES_MAX: usize = 8 * MIB;
/// The text of one message in a list; the whole is shown where one message is asked for.
pub const OPERATOR_EXCERPT_BYTES_MAX: usize = 256;
/// Dead letters that one transaction puts back or drops, so that it does not hold up the others for long.
pub const OPERATOR_DEAD_CHANGED_MAX: usize = 1000;
/// Changes of operators that are kept: years of them by hand, and some hundred kilobytes.
pub const CHANGES_KEPT_MAX: i64 = 10_000;
/// The body of an operator's request: the longest has the path of a file in it.
pub const OPERATOR_BODY_BYTES_MAX: usize = 16 * KIB;
/// A request that sends a message, with its files in base64: a few documents, not a film.
pub const OPERATOR_SEND_BODY_BYTES_MAX: usize = 24 * MIB;
/// Files of one message that the operator sends: as many as a person would pick.
pub const OPERATOR_SEND_FILES_MAX: usize = 16;
/// The words that say to an operator why not, bytes: they may repeat what was asked, which may be long.
pub const OPERATOR_FAULT_BYTES_MAX: usize = 4 * KIB;
/// An answer to an operator's request, read by the command line: what all rows of a list can have.
pub const OPERATOR_ANSWER_BYTES_MAX: usize = 16 * MIB;
/// Deliveries that a trace follows from one platform id: short ids come again in every conversation.
pub const TRACES_MAX: usize = 20;
/// How long the command line waits for the gateway.
pub const OPERATOR_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it waits for a gateway that is starting or stopping: as long as a few components take to compile.
pub const OPERATOR_START_WAIT: Duration = Duration::from_secs(10);
/// How often it looks meanwhile.
pub const OPERATOR_START_LOOK_PERIOD: Duration = Duration::from_millis(100);
/// How often a change of the configuration file is made again because someone else was faster: each time somebody else's
/// is done, so that so many can begin at once.
pub const CONFIG_EDIT_TRIES_MAX: u32 = 64;
/// How often a start reads the configuration again because it was changed meanwhile: nobody edits it faster for long.
pub const CONFIG_READ_TRIES_MAX: u32 = 16;
/// An id that an operator asks for: the longest is a platform's.
pub const OPERATOR_ID_BYTES_MAX: usize = PLATFORM_ID_BYTES_MAX;

// ---- what comes in

/// A platform's id of a message, conversation, sender or thread: the longest seen (Matrix) has 255.
pub const PLATFORM_ID_BYTES_MAX: usize = 512;
/// A display name or title; longer ones are cut, since nothing depends on them.
pub const DISPLAY_NAME_BYTES_MAX: usize = 512;
/// The text of one inbound message: over any platform's own limit, under what a model's context is worth.
pub const INBOUND_TEXT_BYTES_MAX: usize = 256 * KIB;
/// Messages in one `publish`: a Telegram poll returns up to 100.
pub const PUBLISH_MESSAGES_MAX: usize = 200;
/// Attachments of one message.
pub const ATTACHMENTS_MAX: usize = 32;
/// Entries of `extra` of one message.
pub const EXTRA_ENTRIES_MAX: usize = 32;
/// Bytes of one `extra` key or value.
pub const EXTRA_BYTES_MAX: usize = 4 * KIB;
/// A channel's cursor.
pub const CURSOR_BYTES_MAX: usize = 16 * KIB;
/// Messages of one channel in a minute, where the operator says nothing; a minute's worth may come at once. A thousand a
/// second are more than any platform sends to one bot.
pub const MESSAGES_PER_MINUTE_DEFAULT: u32 = 60_000;
/// Bytes a second that a channel takes in with its messages: a thousand of two KiB. As many as may come of the longest
/// would have everyone wait for the disk, and fill the store's part of it in minutes.
pub const INBOUND_BYTES_PER_SECOND: u32 = 2 * MIB as u32;
/// Bytes that it takes in at once before that: what people sent while the gateway was away.
pub const INBOUND_BYTES_BURST: u32 = 16 * MIB as u32;
/// How long `publish` waits for room before it tells the guest to wait, and for how long then.
pub const PUBLISH_BUSY_WAIT: Duration = Duration::from_secs(5);
/// How often a `publish` that waits for room looks.
pub const PUBLISH_LOOK_PERIOD: Duration = Duration::from_millis(50);

// ---- when nothing more is taken in

/// Inbound events that may wait for their turn, over all channels: more than a day's work of an agent.
pub const INBOX_ROWS_DEFAULT: u64 = 100_000;
/// Those of one channel: half of all, so that a flood of one leaves room for the others.
pub const CHANNEL_ROWS_DEFAULT: u64 = INBOX_ROWS_DEFAULT.div_ceil(2);
/// Outbound events that may wait to be delivered: a day of a platform's outage for a very large gateway, some 2 GiB.
pub const OUTBOX_ROWS_DEFAULT: u64 = 2_000_000;
/// Of either in one conversation: what a person can write in a day, so that one can't fill the disk for all.
pub const CONVERSATION_ROWS_DEFAULT: u64 = 1000;
/// Bytes of the store, blobs included: several years of a busy gateway's history.
pub const STORE_BYTES_DEFAULT: u64 = 20 * 1024 * MIB as u64;
/// Bytes that are left free on the disk: twice [`WAL_BYTES_MAX`], a blob, and room for an operator to work.
pub const DISK_FREE_BYTES_DEFAULT: u64 = 256 * MIB as u64;
/// How often the store's size and the disk are looked at.
pub const PRESSURE_PERIOD: Duration = Duration::from_secs(1);
/// What a caller hears to wait while nothing is taken in.
pub const PRESSURE_RETRY: Duration = Duration::from_secs(10);
/// How often it is noted that a channel listens, and what time it is: a gap after a crash, and a clock that was set back
/// while nobody looked, are known to within this.
pub const SEEN_PERIOD: Duration = Duration::from_secs(30);
/// The shortest time without a listener that counts as a gap where the platform keeps nothing.
pub const GAP_MIN: Duration = Duration::from_secs(1);

// ---- the store

/// Commands that may wait for the writer. Above it, callers wait: this is the back-pressure of the whole gateway.
pub const STORE_QUEUE_MAX: usize = 4096;
/// Commands in one transaction: what a flush is shared by.
pub const STORE_BATCH_COMMANDS_MAX: usize = 1024;
/// Bytes of text and blobs in one transaction, so that one commit stays short.
pub const STORE_BATCH_BYTES_MAX: usize = 4 * MIB;
/// Outbound events in lanes whose order is kept in memory only: above it the oldest such lanes are settled, which costs
/// each of their rows another write. As many as are in flight and just stored under full load.
pub const FRESH_ROWS_MAX: usize = 4096;
/// Bytes of their texts.
pub const FRESH_BYTES_MAX: usize = 8 * MIB;
/// How far behind the newest number the oldest of them may be: what is read of the outbox when the store is opened.
pub const FRESH_SPAN_MAX: i64 = 65_536;
/// Read-only connections: reads are short, and there are two cores on a small server.
pub const STORE_READERS: usize = 4;
/// Keys of one channel's state, where the operator says nothing: all of them are listed in one answer.
pub const STATE_KEYS_DEFAULT: u32 = 20_000;
/// Bytes of one key of a channel's state.
pub const STATE_KEY_BYTES_MAX: usize = 1024;
/// Bytes of one value of a channel's state.
pub const STATE_VALUE_BYTES_MAX: usize = 256 * KIB;
/// Bytes of one channel's state, keys and values together, where the operator says nothing.
pub const STATE_BYTES_DEFAULT: u64 = 16 * MIB as u64;
/// Bytes of the keys of a channel's state that are listed in one answer, each with what it costs the host to hold: all that
/// the defaults above allow. A list without a bound would be made by a channel that was given more room.
pub const STATE_LIST_BYTES_MAX: usize =
    STATE_BYTES_DEFAULT as usize + STATE_KEYS_DEFAULT as usize * size_of::<String>();
/// Bytes a second that one channel may write into its state, over and over in the same place too: what is written moves
/// from the write-ahead log into the database, and where that can't keep up the whole store waits for it.
pub const STATE_WRITE_BYTES_PER_SECOND: u32 = MIB as u32;
/// Bytes that it may write at once before that: all that its state may hold where the operator says nothing, and some.
pub const STATE_WRITE_BYTES_BURST: u32 = 20 * MIB as u32;
/// What such a write, or a cursor without a message, is charged besides: the pages that change with it.
pub const STATE_WRITE_BYTES_MIN: usize = 2 * KIB;
/// Bytes of one blob: Telegram's bots may send 50 MB.
pub const BLOB_BYTES_MAX: usize = 50 * MIB;
/// Bytes of one channel's blobs, where the operator says nothing: a busy day's files, kept for [`BLOB_RETENTION`].
pub const BLOBS_BYTES_DEFAULT: u64 = 1024 * MIB as u64;
/// What a blob is charged at least: a block of the disk. Without it a channel could make a thousand million empty files.
pub const BLOB_BYTES_CHARGED_MIN: usize = 4 * KIB;
/// Imports that the refusal of a component names: the sockets of WASI are seven, and nobody reads a thousand.
pub const IMPORTS_SHOWN_MAX: usize = 16;
/// Bytes of each: the longest of WASI has about 50.
pub const IMPORT_SHOWN_BYTES_MAX: usize = 128;
/// The name of a file in a granted folder: file systems take 255, and people add to names.
pub const FOLDER_NAME_BYTES_MAX: usize = 200;
/// Files in a granted folder, others' included: it is read before each new one.
pub const FOLDER_FILES_MAX: usize = 10_000;
/// Bytes in a granted folder, others' included: twenty of the largest files, which somebody should have fetched by then.
pub const FOLDER_BYTES_MAX: u64 = 1024 * MIB as u64;
/// After how long an unfinished file in a granted folder is one that a crash left: the largest takes minutes at most.
pub const FOLDER_LEFT_OVER_AGE: Duration = Duration::from_secs(3600);
/// How long a blob is kept.
pub const BLOB_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a done inbound event is kept for deduplication: webhooks are retried for up to three days (Stripe, the longest known).
pub const INBOX_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a receipt is kept.
pub const RECEIPT_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// Rows that one sweep drops, so that it never holds the writer for long.
pub const SWEEP_ROWS_MAX: usize = 1000;
/// Sequence numbers whose receipts one sweep makes findable by the platform's id; a trace reads through what is newer.
pub const SENT_INDEXED_MAX: usize = 5000;
/// How far an event's row may lie from those of its own time: as long as `publish` can wait for the store.
pub const EVENT_ROW_TOLERANCE: Duration = Duration::from_secs(60);
/// How long a start waits for the lock of its data directory: whoever looks whether a gateway runs has it for an instant.
pub const DATA_LOCK_WAIT: Duration = Duration::from_secs(1);
/// How often it tries to take the lock meanwhile.
pub const DATA_LOCK_LOOK_PERIOD: Duration = Duration::from_millis(10);
/// How often a start that fails tries to remove the data directory that it made: a compilation that is just done may still
/// put its code there, in one file that has two names one after the other.
pub const NEW_DATA_REMOVALS_MAX: usize = 3;
/// How often it is checked that the store still takes writes.
pub const STORE_CHECK_PERIOD: Duration = Duration::from_millis(200);
/// How often the store is swept.
pub const SWEEP_PERIOD: Duration = Duration::from_secs(60);
/// The write-ahead log, in bytes: at this size the writer pauses until it is moved into the database, and no longer file
/// is kept.
pub const WAL_BYTES_MAX: i64 = 64 * MIB as i64;

/// The least by which a clock that was set is told from one that goes a little wrong: NTP steps from 128 ms on.
pub const CLOCK_JUMP_MIN: Duration = Duration::from_millis(500);
/// How often the clock is compared with the wall's.
pub const CLOCK_PERIOD: Duration = Duration::from_secs(1);

// ---- the bus

/// Events that a slow subscriber may lag behind before it loses some: some minutes of a busy live view.
pub const BUS_EVENTS_MAX: usize = 1024;
/// How long a worker waits at most before it reads the store again, so that a lost wake-up costs seconds and never a message.
pub const RECHECK_PERIOD: Duration = Duration::from_secs(2);
/// The pause between two looks at a store that says that work is due but hands none out, and after it was busy.
pub const RECHECK_PAUSE_MIN: Duration = Duration::from_millis(50);

// ---- turns

/// Turns that run at once, over all channels: each holds a model request or a child process.
pub const TURNS_RUNNING_MAX: usize = 48;
/// Turns of one channel that run at once, so that one whose model hangs leaves room for the others.
pub const TURNS_PER_CHANNEL_MAX: usize = 32;
/// Turns that a channel may run whatever the others run, so that no number of models that hang stops it.
pub const TURNS_PER_CHANNEL_MIN: usize = 2;
/// The longest turn.
pub const TURN_TIMEOUT: Duration = Duration::from_secs(600);
/// The wait before run n + 1 of a turn after run n failed, jittered by ±20 %: together nearly two hours, which covers the
/// restart of a model server, and after which a late answer would surprise more than help.
pub const TURN_RETRY_SCHEDULE: [Duration; 7] = [
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(3600),
];
/// Failed runs of one turn before it is given up: one more than the schedule has waits.
pub const TURN_FAILURES_MAX: u32 = 8;
/// Runs of one turn that ended at [`TURN_TIMEOUT`] before it is given up: each costs ten minutes of a model.
pub const TURN_TIMED_OUT_MAX: u32 = 3;
/// The shortest wait after a failure that only the operator can end (wrong key, no such model).
pub const TURN_MISCONFIGURED_WAIT_MIN: Duration = Duration::from_secs(60);
/// The longest wait that a model server may ask for.
pub const TURN_RATE_LIMIT_WAIT_MAX: Duration = Duration::from_secs(3600);
/// The wait from which on the person is told that the answer will be late.
pub const TURN_NOTICE_WAIT_MIN: Duration = Duration::from_secs(10);
/// Lines of history that a turn is given.
pub const HISTORY_ENTRIES_MAX: usize = 60;
/// Bytes of history that a turn is given: about 8,000 tokens.
pub const HISTORY_BYTES_MAX: usize = 32 * KIB;
/// The text of one answer; a longer one is cut with a notice.
pub const ANSWER_BYTES_MAX: usize = 256 * KIB;
/// How long a turn runs before "typing" is shown: an answer that takes less needs none.
pub const TYPING_DELAY: Duration = Duration::from_millis(250);
/// How often "typing" is repeated: Telegram shows it for five seconds.
pub const TYPING_PERIOD: Duration = Duration::from_secs(4);
/// The time between two drafts of one answer: Telegram allows about one message a second in a chat.
pub const DRAFT_PERIOD: Duration = Duration::from_secs(1);
/// How often a growing answer is copied for the next draft.
pub const DRAFT_SAMPLE_PERIOD: Duration = Duration::from_millis(100);
/// Calls of one channel's presence that may run at once, over all turns; the draft that finds none free is dropped.
pub const DRAFTS_IN_FLIGHT_MAX: usize = 16;
/// How long a finished answer waits for the draft that is on its way, so that it replaces it and does not stand beside it.
pub const DRAFT_SETTLE_MAX: Duration = Duration::from_secs(2);
/// The longest wait for a connection to a model server.
pub const MODEL_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest silence in the middle of a model's answer.
pub const MODEL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long what follows the end of a model's answer is read, so that its connection can be used again.
pub const MODEL_DRAIN_TIMEOUT: Duration = Duration::from_millis(100);
/// One line of a model's event stream.
pub const MODEL_LINE_BYTES_MAX: usize = MIB;
/// A model's answer that comes as one JSON document.
pub const MODEL_BODY_BYTES_MAX: usize = 4 * MIB;
/// The part of a model server's error body that is read.
pub const MODEL_ERROR_BYTES_MAX: usize = 16 * KIB;
/// How long the search for a local model server may take: it is a part of every start without an agent configured.
pub const MODEL_DETECT_TIMEOUT: Duration = Duration::from_millis(250);
/// A local model server's list of its models: some 200 bytes each, of which nobody has a thousand.
pub const MODEL_LIST_BYTES_MAX: usize = 256 * KIB;
/// One line that an agent program writes: a whole answer, escaped.
pub const COMMAND_LINE_BYTES_MAX: usize = 2 * MIB;
/// Everything that an agent program may write to its standard output in one turn.
pub const COMMAND_OUTPUT_BYTES_MAX: usize = 16 * MIB;
/// The end of an agent program's standard error that is kept for the log.
pub const COMMAND_STDERR_BYTES_MAX: usize = 4 * KIB;
/// How long the pipes of an agent program are still read after it has ended: a child that it left behind may hold them open.
pub const COMMAND_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

// ---- delivery

/// Attempts in flight at once, over all channels: of what waits in some of them, the others have so much left.
pub const DELIVERIES_IN_FLIGHT_MAX: usize = 128;
/// Attempts in flight at once of one channel, so that a slow platform leaves room for the others.
pub const DELIVERIES_PER_CHANNEL_MAX: usize = 24;
/// Attempts in flight that a channel may have whatever the others have, so that no number of platforms that hang stops it.
pub const DELIVERIES_PER_CHANNEL_MIN: usize = 4;
/// The percentage of its places that a channel gives to lanes of which it is not known that they deliver. The others are
/// for those whose last attempt did: conversations that hang, however many, never take those.
pub const DELIVERIES_UNPROVEN_PERCENT: usize = 75;
/// The percentage of its places that a channel gives to attempts that are not the first: what failed before may fail again,
/// and what is new need not wait for it.
pub const DELIVERIES_TRIED_PERCENT: usize = 50;
/// A channel's retry budget: this many retries may fail one right after the other. What failed for a thousand conversations is
/// not sent a thousand times in a moment: neither the platform nor the channel's healthy conversations should feel it.
pub const RETRY_BUDGET: u32 = 12;
/// How long a retry that failed counts against the budget of its channel: a platform that refuses everything is asked again at
/// most 100 times a second. A retry that arrives costs nothing, so what waits is soon sent once a platform is back.
pub const RETRY_BUDGET_REFILL: Duration = Duration::from_millis(10);
/// Lanes that are known to deliver; above it all are unproven again, until their next delivery.
pub const DELIVERIES_PROVEN_LANES_MAX: usize = 16_384;
/// Lane heads that one claim asks for: so that no claim holds up the writer, and none takes long to begin.
pub const DELIVERY_CLAIM_MAX: usize = 16;
/// The wait before attempt n + 1 after attempt n failed; the last one repeats until the expiry. Jittered by ±20 %.
pub const RETRY_SCHEDULE: [Duration; 7] = [
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(6 * 3600),
];
/// How long an outbound event is tried: an answer that comes a day late is noise.
pub const DELIVERY_EXPIRY: Duration = Duration::from_secs(24 * 3600);
/// How long a word about what happens just now is tried, such as that an answer will be late.
pub const NOTICE_EXPIRY: Duration = Duration::from_secs(3600);
/// How long a handed-over delivery waits for its confirmation before it is sent again.
pub const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest wait that a guest may ask for with `rate-limited`.
pub const RATE_LIMIT_WAIT_MAX: Duration = Duration::from_secs(3600);
/// The shortest wait after `rate-limited`: a guest that asks for none would be called without end.
pub const RATE_LIMIT_WAIT_MIN: Duration = Duration::from_millis(500);
/// When a delivery is tried again whose channel was not up or is paused: the wait counts from when it is up again.
pub const NOT_UP_WAIT: Duration = Duration::from_secs(1);
/// Drafts whose ids are remembered until the answer replaces them.
pub const DRAFTS_MAX: usize = 4096;
/// How often an attempt without a known outcome is repeated where nothing removes the copies.
pub const AMBIGUOUS_RESENDS_DEFAULT: u32 = 1;
/// Platform ids in one receipt; more are cut, since they only tell parts apart. An answer of [`ANSWER_BYTES_MAX`] in
/// parts of a kilobyte has 256.
pub const RECEIPT_IDS_MAX: usize = 256;
/// The index of a part that a guest may report, exclusive: as many parts as a receipt has ids.
pub const PARTS_MAX: u32 = 256;
/// The longest reason that is stored with a failure.
pub const REASON_BYTES_MAX: usize = 1024;

// ---- components and their instances

/// A component's file: Python guests have 18 MiB.
pub const COMPONENT_BYTES_MAX: usize = 32 * MIB;
/// Core modules and components in one component: Python guests have some 60.
pub const COMPONENT_PARTS_MAX: usize = 256;
/// Functions of all its modules: an interpreter with its libraries has some 30,000.
pub const COMPONENT_FUNCTIONS_MAX: usize = 200_000;
/// The code of one function: the main loop of an interpreter has some 200 KiB. A compiler's time and memory for one grow
/// faster than its size.
pub const COMPONENT_FUNCTION_BYTES_MAX: usize = MIB;
/// How long a component may take to be compiled where the operator says nothing: a Python guest takes some 16 s of one core.
pub const COMPILE_TIME_DEFAULT: Duration = Duration::from_secs(120);
/// The memory of a process that compiles where the operator says nothing: a Python guest takes some 550 MiB with all
/// threads, the bundled ones less than 50.
pub const COMPILE_MEMORY_BYTES_DEFAULT: u64 = 1024 * MIB as u64;
/// The threads of a process that compiles: each works on a function of its own, and its memory counts with the others'.
pub const COMPILE_THREADS_MAX: usize = 4;
/// All reviewed components that are kept against a change of their files, together: as many as Python guests a dozen.
pub const COMPONENTS_KEPT_BYTES_MAX: u64 = 256 * MIB as u64;
/// How often it is looked whether a component's file was changed: a few calls of `stat`.
pub const COMPONENT_LOOK_PERIOD: Duration = Duration::from_secs(2);
/// How long calls of a channel that is replaced or removed may take to end.
pub const CHANNEL_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the command line waits for a change of a channel: a component is compiled, the old one drained and stopped,
/// the new one started.
pub const CHANNEL_CHANGE_TIMEOUT: Duration = Duration::from_secs(180);
/// How often running guests are interrupted, for their neighbours and their deadlines: while a guest runs on a thread that
/// serves everyone, nobody may be looking at that thread's sockets, so a neighbour may wait as long as this.
pub const EPOCH_TICK: Duration = Duration::from_millis(2);
/// Linear memory of one instance where the operator says nothing: enough for a Python guest.
pub const GUEST_MEMORY_BYTES_DEFAULT: usize = 128 * MIB;
/// The stack of a guest; wasmtime's own default, named here because deep recursion is an attack.
pub const GUEST_STACK_BYTES_MAX: usize = 512 * KIB;
/// Elements of all tables of an instance: Python guests need some 20,000.
pub const GUEST_TABLE_ELEMENTS_MAX: usize = 100_000;
/// Core instances in one component: Python guests have some 60.
pub const GUEST_CORE_INSTANCES_MAX: usize = 200;
/// Tables in one component.
pub const GUEST_TABLES_MAX: usize = 64;
/// Memories in one component.
pub const GUEST_MEMORIES_MAX: usize = 16;
/// Host resources that an instance may hold.
pub const GUEST_HANDLES_MAX: usize = 2000;
/// Bytes that one call may copy from guest to host: more than the largest body or blob.
pub const GUEST_HOSTCALL_BYTES_MAX: usize = 64 * MIB;
/// The same where [`GUEST_LARGE_HOSTCALLS_MAX`] other instances of the channel may copy as much as any: more than any
/// message and any frame, since files are handed over as blobs.
pub const GUEST_HOSTCALL_BYTES_CROWDED_MAX: usize = 8 * MIB;
/// Instances of one channel that may each copy [`GUEST_HOSTCALL_BYTES_MAX`] at once. With
/// [`GUEST_HOSTCALL_BYTES_CROWDED_MAX`] for all others this bounds what a channel has between guest and host, in all, to
/// some 700 MiB; without it, it would be 4 GiB.
pub const GUEST_LARGE_HOSTCALLS_MAX: usize = 4;
/// Headers of one request of a guest that uses `wasi:http`: it may hold [`GUEST_HANDLES_MAX`] of them, sent or not, so that
/// no more than servers commonly take.
pub const GUEST_HEADER_BYTES_MAX: usize = 16 * KIB;
/// The method and the authority of such a request: the longest host with its port, and room for the name of a user, so that
/// who gives one is told that nobody may.
pub const GUEST_HTTP_WORD_BYTES_MAX: usize = 512;
/// Bytes of a body that such a guest may write at once. The host keeps two such pieces of each body that was begun, of which
/// there may be some 600 in an instance.
pub const GUEST_HTTP_PIECE_BYTES_MAX: usize = 8 * KIB;
/// What the host keeps for all instances of a channel of the bodies that they send with `wasi:http`, of the answers that
/// they have not read, and of lists of headers: two of the largest files.
pub const CHANNEL_KEPT_BYTES_MAX: usize = 128 * MIB;
/// What the lists of headers of one instance take whatever the others have: a few requests.
pub const GUEST_HEADERS_FREE_BYTES: usize = 64 * KIB;
/// Files and lists of keys that are on their way between disk, peers and guests of a channel; others wait, bytes.
pub const CHANNEL_FILES_BYTES_MAX: usize = 4 * BLOB_BYTES_MAX;
/// Random bytes that a guest may ask for at once.
pub const GUEST_RANDOM_BYTES_MAX: u64 = 64 * KIB as u64;
/// Memory of all instances of one channel together, in instances that have all they may have: calls that run side by side
/// need little each, and a channel that fills them all must not fill the machine.
pub const CHANNEL_MEMORY_INSTANCES_MAX: usize = 8;
/// Guest CPU time that a channel may use at once before it is slowed down: a burst of messages, or the start of an
/// interpreter in several instances.
pub const CHANNEL_CPU_BURST: Duration = Duration::from_secs(2);
/// The part of one core that a channel is slowed down to where the operator says nothing, in percent: its neighbours have the
/// rest. Of a channel that gets more or less, the parts below are as much more or less.
pub const CHANNEL_CPU_PERCENT_DEFAULT: u32 = 50;
/// The part of one core that a channel may use on the threads that serve everyone where the machine is crowded, in
/// percent: many brief calls weigh as much as a long one. Above it, its calls run where they make nobody wait. Some
/// hundred messages a second of a Rust component, each with its answer, stay below.
pub const CHANNEL_CPU_BRIEF_PERCENT: u32 = 30;
/// Guest CPU time that a channel may use at once on those threads: some thousand ordinary calls.
pub const CHANNEL_CPU_BRIEF_BURST: Duration = Duration::from_millis(200);
/// Guest CPU time that the long calls of a channel may use at once where the machine is crowded: as much as the start of an
/// interpreter.
pub const CHANNEL_CPU_LONG_BURST: Duration = Duration::from_millis(500);
/// The part of one core that the long calls of a channel are slowed down to after that, as long as the machine is crowded,
/// in percent: a message of a Python component each second. However low their priority, those who want the core meanwhile
/// wait for it a moment longer.
pub const CHANNEL_CPU_LONG_PERCENT: u32 = 3;
/// What such calls may owe: the longest that one rests between two ticks follows from it.
pub const CHANNEL_CPU_LONG_DEBT_MAX: Duration = Duration::from_millis(20);
/// What the death of an instance is booked as beside what it used: taking it apart, telling of it and starting anew cost
/// the host more than the guest, and who dies in a loop is of no use to anyone.
pub const TRAP_CPU: Duration = Duration::from_millis(10);
/// What a guest's question to the store, or a small write, is booked as: another thread's work, and the way there and back.
pub const STORE_CALL_CPU: Duration = Duration::from_micros(50);
/// What a file that a guest stores is booked as, beside its bytes: two flushes that nobody shares.
pub const FILE_CPU: Duration = Duration::from_micros(500);
/// What a byte of such a file is booked as, nanoseconds: a channel that stores files without end is slowed down to some
/// 12 MB a second, which a small server's disk bears.
pub const FILE_BYTE_NS: u64 = 40;
/// The part of each core that all channels use together before the machine counts as crowded, in percent: below it, one
/// that is busy takes nothing that another wants.
pub const CROWD_CPU_PERCENT: u32 = 15;
/// Guest CPU time that all channels may use at once before that.
pub const CROWD_CPU_BURST: Duration = Duration::from_millis(500);
/// Guest CPU time that a call may use on the threads that serve everyone, before it goes on where it makes nobody wait:
/// ten times what a bare delivery of a Rust component takes, and more than one takes that reads and writes JSON. Found at
/// ticks of the epoch, and at the end of the call: then for the calls after it.
pub const CALL_CPU_BRIEF_MAX: Duration = Duration::from_micros(500);
/// Guest CPU time of one call where the operator says nothing.
pub const CALL_CPU_DEFAULT: Duration = Duration::from_secs(5);
/// Time for a delivery, host waits included: several parts and files over a slow line.
pub const DELIVER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Time to handle a webhook: platforms give up after 3 to 30 s and call again.
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// Time to handle a client's frame.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// Time to show typing or a draft.
pub const PRESENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a channel's `start` and `stop`.
pub const LIFECYCLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for a component to say what it is.
pub const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Guest CPU time for a component to say what it is: Python guests start in half a second.
pub const DESCRIBE_CPU_MAX: Duration = Duration::from_secs(1);
/// Calls of one channel that run at once, over all exports, where the operator says nothing.
pub const CALLS_PER_CHANNEL_DEFAULT: u32 = 64;
/// Calls of one channel that wait for their turn, over all exports. With those that run this bounds how many of
/// [`CONNECTIONS_ASKING_MAX`] the callers of one slow channel can hold.
pub const CALLS_WAITING_PER_CHANNEL_MAX: usize = 64;
/// How long a call may wait for its turn before it is refused as busy.
pub const CALL_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a component is tried out with nothing granted: what it does first, and once more after it failed.
pub const TRIAL_TIME_MAX: Duration = Duration::from_secs(10);
/// Settings, secrets or endpoints in a description.
pub const DESCRIPTION_ITEMS_MAX: usize = 64;
/// A key or name in a description.
pub const DESCRIPTION_WORD_BYTES_MAX: usize = 64;
/// A line of text in a description.
pub const DESCRIPTION_LINE_BYTES_MAX: usize = 512;
/// The wait before a failed listener is started again; doubled each time.
pub const LISTENER_RESTART_WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest such wait.
pub const LISTENER_RESTART_WAIT_MAX: Duration = Duration::from_secs(300);
/// Crashes of a listener in a row, with the waits above some two minutes, after which the channel is paused: one that
/// dies at once each time is not mended by another try. What it reports itself, such as a platform that can't be
/// reached, is no crash.
pub const LISTENER_CRASHES_MAX: u32 = 8;
/// A listener that ran this long starts again without a wait from earlier failures.
pub const LISTENER_STEADY: Duration = Duration::from_secs(60);
/// The longest sleep that a guest may ask for in one call.
pub const GUEST_SLEEP_MAX: Duration = Duration::from_secs(3600);
/// How long a listener has to return once it was told to stop.
pub const LISTENER_STOP_GRACE: Duration = Duration::from_secs(2);
/// A request through a channel's relay, and its answer, bytes: one message of a platform with room to spare.
pub const RELAY_BYTES_MAX: usize = 64 * KIB;
/// Requests in a channel's relay, waiting and taken together; further ones are told `busy`. As many as calls can ask.
pub const RELAY_WAITING_MAX: usize = 64;

// ---- a channel's log

/// A line, where the operator says nothing; longer ones are cut.
pub const LOG_LINE_BYTES_DEFAULT: usize = 4 * KIB;
/// Lines a channel may write at once.
pub const LOG_LINES_BURST: u32 = 200;
/// Lines a second that it may go on with, where the operator says nothing.
pub const LOG_LINES_PER_SECOND_DEFAULT: u32 = 20;
/// Words of a component, a platform or a file that a person is shown in one place: as much as fits a screen.
pub const SHOWN_BYTES_MAX: usize = 4 * KIB;

// ---- the gateway's own surface

/// Clients connected to one channel, where the operator says nothing.
pub const CLIENTS_PER_CHANNEL_DEFAULT: usize = 1024;
/// Frames that one call may answer a client with.
pub const CLIENT_ANSWER_FRAMES_MAX: usize = 64;
/// Bytes of them together, which the host keeps until the client has read them: two of the largest.
pub const CLIENT_ANSWER_BYTES_MAX: usize = 2 * CLIENT_FRAME_BYTES_MAX;
/// Frames that may wait for one client.
pub const CLIENT_FRAMES_WAITING_MAX: usize = 64;
/// A frame to or from a client.
pub const CLIENT_FRAME_BYTES_MAX: usize = 512 * KIB;
/// The largest frame of a client that is still read, to be refused in an orderly way: where more of it is under way, the end
/// of the connection may reach the client before the reason does.
pub const CLIENT_FRAME_READ_BYTES_MAX: usize = 2 * CLIENT_FRAME_BYTES_MAX;
/// What a client has not read, bytes, answers to its pings included: two frames. The library keeps without end where nobody
/// says.
pub const CLIENT_UNREAD_BYTES_MAX: usize = 2 * CLIENT_FRAME_BYTES_MAX;
/// How long a client may take to let a frame be written.
pub const CLIENT_WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may be silent (it is pinged at half of that).
pub const CLIENT_IDLE_MAX: Duration = Duration::from_secs(60);
/// What all connections have sent that is not whole, or not answered yet, bytes. Strangers may begin as many bodies and
/// frames as there are connections; each alone is harmless, all together are more than a small machine has.
pub const UNFINISHED_BYTES_MAX: usize = 64 * MIB;
/// What of it each connection has whatever the others do, and how far ahead is read: an ordinary message.
pub const UNFINISHED_BYTES_FREE: usize = 16 * KIB;
/// The head of a request: what common servers take, and room for a path with a token.
pub const REQUEST_HEAD_BYTES_MAX: usize = 64 * KIB;
/// A webhook's body, whatever its recipe says.
pub const WEBHOOK_BODY_BYTES_MAX: usize = MIB;
/// Time to read a request's body.
pub const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// What is still read of a body that was refused as too large, so that its sender hears why: more would be a gift.
pub const REFUSED_BODY_BYTES_MAX: usize = 64 * MIB;
/// How long it is read; after that the connection ends under its sender.
pub const REFUSED_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Headers of a channel's answer to a webhook.
pub const REPLY_HEADERS_MAX: usize = 64;
/// Names and values of these headers, bytes together: what common clients take.
pub const REPLY_HEADER_BYTES_MAX: usize = 16 * KIB;
/// Connections that ask something at once; each has one request at a time. Whoever comes on top takes the place of the one
/// that was silent for the longest time, or waits where all are asking. A client's connection to a channel does not
/// count: [`CLIENTS_PER_CHANNEL_DEFAULT`]. Above it file descriptors, of which many systems give a process 1024, would be
/// missing elsewhere.
pub const CONNECTIONS_ASKING_MAX: usize = 512;
/// Files and connections that the process asks the system to have open: the clients of several channels.
pub const OPEN_FILES_WANTED: u64 = 16_384;
/// What of them is kept from clients besides [`CONNECTIONS_ASKING_MAX`]: the store, and the sockets of some channels.
pub const OPEN_FILES_BESIDES: usize = 256;
/// Clients that are let in however few files may be open.
pub const CLIENTS_MIN: usize = 16;
/// How long a connection that has just come need not make room for others: the way of its first head from far away, over a
/// bad line. Who comes on top waits until one of them has asked, or no longer is new.
pub const CONNECTION_NEW: Duration = Duration::from_secs(2);
/// Time to read a request's head, from when it could come: a connection that asks nothing for so long is ended.
pub const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// What a caller hears to wait while a channel is paused or starting: a Python guest is compiled by then.
pub const CHANNEL_AWAY_RETRY: Duration = Duration::from_secs(30);
/// How soon behind the first signal another one is the same, passed on twice: far less than a person, or a script that means
/// it, takes to say so again.
pub const SIGNAL_ECHO: Duration = Duration::from_millis(50);
/// The wait before the next connection is accepted where the system refused one, such as for want of file descriptors.
pub const ACCEPT_RETRY: Duration = Duration::from_secs(1);

// ---- stopping

/// How often the work that is left is looked at while the gateway stops.
pub const DRAIN_LOOK_PERIOD: Duration = Duration::from_millis(10);
/// What is under way at the end of the grace, and the channels' own `stop`, may take this much longer: a request that was
/// sent just then may still be answered, and is no ambiguous one. At most the grace.
pub const DRAIN_LAST_PATIENCE: Duration = Duration::from_secs(2);
/// How long turns that were cut short may take to go: dropping them takes no time, but a turn of the scheduler.
pub const DRAIN_ABORT_PATIENCE: Duration = Duration::from_secs(2);

// ---- egress

/// A host name: what DNS can hold (RFC 1035 section 2.3.4), without the last dot.
pub const HOST_BYTES_MAX: usize = 253;
/// One label of a host name (RFC 1035 section 2.3.4).
pub const HOST_LABEL_BYTES_MAX: usize = 63;
/// A guest's URL, with its secrets filled in: what common servers take.
pub const URL_BYTES_MAX: usize = 8 * KIB;
/// Headers of one request or response.
pub const HTTP_HEADERS_MAX: usize = 100;
/// Names and values of the headers of one request or response, bytes together.
pub const HTTP_HEADER_BYTES_MAX: usize = 64 * KIB;
/// The body of one request: a blob and the form around it.
pub const HTTP_REQUEST_BODY_BYTES_MAX: usize = BLOB_BYTES_MAX + 64 * KIB;
/// Parts of one multipart form.
pub const HTTP_FORM_PARTS_MAX: usize = 64;
/// The body of one response that goes into guest memory, where the operator says nothing.
pub const HTTP_RESPONSE_BODY_BYTES_DEFAULT: usize = 8 * MIB;
/// Pieces of one response stream that wait to be read, bytes.
pub const HTTP_STREAM_READ_BYTES_MAX: usize = MIB;
/// The whole of one request, where the guest does not say.
pub const HTTP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// The whole of one request, whatever the guest says: long polls take up to 60 seconds.
pub const HTTP_TIMEOUT_MAX: Duration = Duration::from_secs(120);
/// Requests and response streams of one channel at once, where the operator says nothing: one for each delivery, so that
/// those that hang take none of the others', and some for polls, webhooks and signs of life.
pub const HTTP_IN_FLIGHT_DEFAULT: usize = DELIVERIES_PER_CHANNEL_MAX + 8;
/// How long a request waits for its place among those of its channel. A platform that answers makes room long before;
/// behind one that does not, the call should end before its own time is up.
pub const HTTP_PLACE_WAIT_MAX: Duration = Duration::from_secs(5);
/// WebSockets and byte streams of one channel at once, where the operator says nothing.
pub const SOCKETS_DEFAULT: usize = 16;
/// Bytes of one channel, in and out together, in one minute, where the operator says nothing: a few large files, not a
/// flood.
pub const EGRESS_BYTES_PER_MINUTE_DEFAULT: u64 = 512 * MIB as u64;
/// The span that [`EGRESS_BYTES_PER_MINUTE_DEFAULT`] is counted over.
pub const EGRESS_QUOTA_PERIOD: Duration = Duration::from_secs(60);
/// Requests and sockets of one channel that its log remembers.
pub const EGRESS_LOG_ENTRIES_MAX: usize = 256;
/// A word of a path, or a method, that the log of requests repeats; longer ones may be tokens.
pub const EGRESS_LOG_WORD_BYTES_MAX: usize = 32;
/// The form of a path in the log of requests.
pub const EGRESS_LOG_PATH_BYTES_MAX: usize = 256;
/// The part of a header, a URL and a body that is searched for the names of secrets, for the log of requests.
pub const EGRESS_LOG_SEARCHED_BYTES_MAX: usize = 64 * KIB;
/// Finding the addresses of a name.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Names that one channel looks up at once, each on a thread until the system's resolver is done; others wait.
pub const LOOKUPS_PER_CHANNEL_MAX: usize = 8;
/// Names that all channels look up at once: a part of the 512 threads that everything shares that blocks.
pub const LOOKUPS_MAX: usize = 128;
/// Connecting to an address, TLS included: under a delivery's deadline, so that a dead peer is told from a slow one.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections that are kept for one host, over all channels.
pub const POOL_IDLE_PER_HOST_MAX: usize = 8;
/// How long an idle connection is kept: under the 2 minutes after which common routers forget it.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// What of an answer over HTTP/2 may wait to be read, bytes: a peer far away can send some megabytes a second.
pub const HTTP2_ANSWER_BYTES_WAITING_MAX: u32 = MIB as u32;
/// How often an idle connection is probed.
pub const TCP_KEEPALIVE: Duration = Duration::from_secs(45);
/// One WebSocket message, either way: Discord's largest (a guild with its members) have a few MiB.
pub const WEBSOCKET_MESSAGE_BYTES_MAX: usize = 4 * MIB;
/// The reason in a WebSocket close frame (RFC 6455 section 5.5).
pub const WEBSOCKET_CLOSE_REASON_BYTES_MAX: usize = 123;
/// One read of a byte stream.
pub const TCP_READ_BYTES_MAX: usize = 256 * KIB;
/// One write to a socket: a peer that takes nothing for so long is gone.
pub const SOCKET_WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// One secret: a private key in PEM has a few KiB.
pub const SECRET_BYTES_MAX: usize = 64 * KIB;
/// Secrets shorter than this are not redacted: they would hide ordinary text.
pub const REDACTED_BYTES_MIN: usize = 6;
/// How far a webhook's time of signing may be off, where its recipe does not say: Slack's and Stripe's five minutes.
pub const WEBHOOK_TOLERANCE: Duration = Duration::from_secs(300);
/// Signed webhooks of one channel that are remembered against replay.
pub const WEBHOOK_SEEN_MAX: usize = 100_000;
