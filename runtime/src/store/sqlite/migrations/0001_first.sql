-- Times are Unix milliseconds. `seq` comes from gateway.next_seq and is never used again, so it orders everything and
-- names a row for ever. A finished message leaves behind only what deduplication and receipts need.

CREATE TABLE gateway (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    boot     INTEGER NOT NULL,  -- how often the store was opened: the fence of turns
    next_seq INTEGER NOT NULL,
    inbox    INTEGER NOT NULL,  -- counts, so that nothing is scanned to know them
    outbox   INTEGER NOT NULL,
    dead     INTEGER NOT NULL,
    dead_inbound INTEGER NOT NULL,
    awaiting INTEGER NOT NULL,  -- of the outbox: those in state 3
    fresh_from INTEGER NOT NULL, -- no outbox row below it is in a state from 10 on
    sent_until INTEGER NOT NULL -- every receipt of a row below it is in `sent`
) STRICT;
INSERT INTO gateway VALUES (1, 0, 1, 0, 0, 0, 0, 0, 1, 0);

CREATE TABLE channel (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    cursor      TEXT,
    seen_at     INTEGER,        -- until when it is known to have listened
    state_keys  INTEGER NOT NULL DEFAULT 0,
    state_bytes INTEGER NOT NULL DEFAULT 0,
    blob_bytes  INTEGER NOT NULL DEFAULT 0
) STRICT;

-- due_at: when the first of its waiting turns is due; null where none waits. floor_at: no turn runs before it.
CREATE TABLE session (
    id        INTEGER PRIMARY KEY,
    key       TEXT NOT NULL UNIQUE,
    due_at    INTEGER,
    floor_at  INTEGER NOT NULL DEFAULT 0,
    last_line INTEGER            -- the newest line of its history; null where there is none
) STRICT;
CREATE INDEX session_due ON session (due_at) WHERE due_at IS NOT NULL;

-- The lines of all sessions in the order of their commits, each with the one before it in its session: a turn adds to the
-- end of one table, where a place of its own for each session would cost every commit a page. Lines are never deleted, so
-- their numbers, which are their own, are not used again.
CREATE TABLE history (
    seq     INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    before  INTEGER,            -- null at the first
    role    INTEGER NOT NULL,   -- 0 user, 1 assistant
    text    TEXT NOT NULL
) STRICT;

-- state: 0 waiting (or running: which ones run is known to the process only), 1 done, 2 dead.
CREATE TABLE inbox (
    seq         INTEGER PRIMARY KEY,
    channel     INTEGER NOT NULL,
    ext_id      TEXT NOT NULL,
    event_id    TEXT NOT NULL,
    session     INTEGER NOT NULL,
    state       INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    finished_at INTEGER,
    failures    INTEGER NOT NULL DEFAULT 0,
    note        TEXT
) STRICT;
CREATE UNIQUE INDEX inbox_known ON inbox (channel, ext_id);
CREATE INDEX inbox_waiting ON inbox (session, seq) WHERE state = 0;
CREATE INDEX inbox_dead ON inbox (finished_at, seq) WHERE state = 2;

CREATE TABLE inbox_body (
    seq    INTEGER PRIMARY KEY,
    body   TEXT NOT NULL,       -- the event as JSON
    answer TEXT                 -- the agent's, once it is finished
) STRICT;

-- due_at: when there is something to do in the lane; null where there is not. floor_at: nothing is sent before it.
CREATE TABLE lane (
    id           INTEGER PRIMARY KEY,
    channel      INTEGER NOT NULL,
    conversation TEXT NOT NULL,
    thread       TEXT NOT NULL, -- empty where there is none
    due_at       INTEGER,
    floor_at     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX lane_place ON lane (channel, conversation, thread);
CREATE INDEX lane_due ON lane (channel, due_at) WHERE due_at IS NOT NULL;

-- state: -1 held by the operator (due when it expires), 0 not tried yet, 1 waiting for its next attempt, 2 of it something
-- may have left the host (which attempts run is known to the process only),
-- 3 awaiting its confirmation, 4 delivered (this is the receipt), 5 dead, 6 dropped. The lowest seq in states -1 to 2 is
-- the head of its lane. 10 and 12 are 0 and 2 in a lane whose order is kept in memory, and so stand in no index of lanes;
-- the lane's own row is as if they were not there.
CREATE TABLE outbox (
    seq          INTEGER PRIMARY KEY,
    key          TEXT NOT NULL UNIQUE,
    lane         INTEGER NOT NULL,
    state        INTEGER NOT NULL DEFAULT 0,
    due_at       INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    attempt_at   INTEGER,
    ambiguous    INTEGER NOT NULL DEFAULT 0,
    ambiguous_at INTEGER,
    turn         INTEGER,       -- the inbox row whose turn made it
    finished_at  INTEGER,
    parts        TEXT,          -- what the platform accepted, as JSON
    receipt      TEXT,          -- the platform's message ids, as JSON
    note         TEXT           -- the reason of the last failure
) STRICT;
CREATE INDEX outbox_lane ON outbox (lane, seq) WHERE state <= 2;
CREATE INDEX outbox_wait ON outbox (lane, due_at) WHERE state = 1 OR state = 3;
CREATE INDEX outbox_dead ON outbox (finished_at, seq) WHERE state = 5;

-- Apart from its row, so that receipts stand close together when the texts are gone.
CREATE TABLE outbox_body (
    seq  INTEGER PRIMARY KEY,
    body TEXT NOT NULL          -- the event as JSON; gone once it is delivered or dropped
) STRICT;

-- The platform's ids of what was sent, to find a delivery by. Filled behind the deliveries, by the sweep, many at once:
-- an index would cost every delivery a write at a random place.
CREATE TABLE sent (
    message_id TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    PRIMARY KEY (message_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE state (
    channel INTEGER NOT NULL,
    key     TEXT NOT NULL,
    value   BLOB NOT NULL,
    PRIMARY KEY (channel, key)
) STRICT, WITHOUT ROWID;

-- The bytes are files of the same name in `blobs`: tens of megabytes would hold up every other commit.
CREATE TABLE blob (
    id         TEXT PRIMARY KEY,
    channel    INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    size       INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_age ON blob (created_at);

-- What operators did, the newest some thousands.
CREATE TABLE change (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    verb    TEXT NOT NULL,
    subject TEXT NOT NULL,
    count   INTEGER NOT NULL
) STRICT;
