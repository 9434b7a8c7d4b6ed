-- All times are milliseconds since 1970 UTC. All content is in this file (DUR-02).
--
-- recipient.id is message * 2^20 + place in the envelope, content.id is message * 2^20 + part: one B-tree
-- each, filled at its right end, and all rows of a message side by side.

CREATE TABLE meta (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    last_written    INTEGER,              -- wall time of the last commit (STS-57)
    timeline_octets INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO meta (id) VALUES (1);

-- One row per start of a process (QUE-38). A lease is owner * 2^40 + a number.
CREATE TABLE owner (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    pid       INTEGER NOT NULL,
    started   INTEGER NOT NULL,
    heartbeat INTEGER NOT NULL
) STRICT;

CREATE TABLE message (
    seq        INTEGER PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    origin     TEXT    NOT NULL CHECK (origin IN ('submitted', 'dsn', 'tls_report')),
    sender     TEXT    NOT NULL,          -- empty: the null reverse-path
    ret        TEXT,
    envid      TEXT,
    smtputf8   INTEGER NOT NULL,
    has_8bit   INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    arrived    INTEGER NOT NULL,
    message_id TEXT    NOT NULL,
    submitter  TEXT    NOT NULL,
    open       INTEGER NOT NULL CHECK (open >= 0),  -- recipients still owed a delivery
    finished   INTEGER CHECK ((finished IS NULL) = (open > 0))
) STRICT;
-- The messages still in the queue, in order of arrival, then the history by its age.
CREATE INDEX message_finished ON message (finished);

-- Keys of messages that must not be made twice, for ever.
CREATE TABLE origin_key (key TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

CREATE TABLE recipient (
    id            INTEGER PRIMARY KEY,
    domain        TEXT    NOT NULL,
    address       TEXT    NOT NULL,
    notify        TEXT,
    orcpt         TEXT,
    -- 0 queued, 1 deferred, 2 delivering, 3 held, 4 delivered, 5 bounced, 6 deleted
    state         INTEGER NOT NULL CHECK (state BETWEEN 0 AND 6),
    attempts      INTEGER NOT NULL DEFAULT 0,
    interruptions INTEGER NOT NULL DEFAULT 0,
    arrived       INTEGER NOT NULL,
    next_attempt  INTEGER NOT NULL,
    lease         INTEGER CHECK ((lease IS NOT NULL) = (state = 2)),
    warned        INTEGER NOT NULL DEFAULT 0,
    cause         TEXT,                   -- NULL before the first attempt has ended
    last          TEXT                    -- the last diagnosis, JSON
) STRICT;
CREATE INDEX recipient_due      ON recipient (domain, next_attempt, arrived) WHERE state <= 1;
CREATE INDEX recipient_unwarned ON recipient (arrived) WHERE state <= 1 AND warned = 0;
CREATE INDEX recipient_leased   ON recipient (lease) WHERE lease IS NOT NULL;

CREATE TABLE content (
    id    INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL CHECK (length(bytes) <= 262144)
) STRICT;
-- Content that no message refers to: transfers under way, failed ones, and large content that is done with.
CREATE TABLE unused_content (seq INTEGER PRIMARY KEY) STRICT;

CREATE TABLE timeline (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    message INTEGER NOT NULL,
    entry   TEXT    NOT NULL
) STRICT;
CREATE INDEX timeline_message ON timeline (message);

CREATE TABLE suspension (
    domain TEXT    PRIMARY KEY,
    until  INTEGER NOT NULL,
    step   INTEGER NOT NULL,
    last   TEXT    NOT NULL
) STRICT;

CREATE TABLE policy (
    domain    TEXT    PRIMARY KEY,
    id        TEXT    NOT NULL,
    mode      TEXT    NOT NULL CHECK (mode IN ('enforce', 'testing', 'none')),
    mx        TEXT    NOT NULL,           -- JSON
    max_age   INTEGER NOT NULL,           -- seconds
    lines     TEXT    NOT NULL,           -- JSON
    fetched   INTEGER NOT NULL,
    expires   INTEGER NOT NULL,
    last_used INTEGER NOT NULL
) STRICT;
CREATE INDEX policy_fetched ON policy (fetched);

CREATE TABLE policy_memory (
    domain                TEXT PRIMARY KEY,
    grace_started         INTEGER,
    backoff_id            TEXT,
    backoff_until         INTEGER,
    backoff_step          INTEGER,        -- milliseconds
    backoff_failure       TEXT,           -- JSON
    last_refetch          INTEGER,
    refresh_failing_since INTEGER,
    refresh_tried         INTEGER,
    written               INTEGER NOT NULL
) STRICT;

CREATE TABLE policy_change (
    id     INTEGER PRIMARY KEY,
    domain TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    what   TEXT    NOT NULL
) STRICT;
CREATE INDEX policy_change_domain ON policy_change (domain);

-- SessionRecords as they come, and folded into counters per UTC day (RPT-29, RPT-30).
CREATE TABLE session_record (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    body TEXT NOT NULL                    -- JSON
) STRICT;
CREATE TABLE session_policy (
    id      INTEGER PRIMARY KEY,
    day     TEXT    NOT NULL,             -- YYYY-MM-DD
    domain  TEXT    NOT NULL,             -- the report domain
    policy  TEXT    NOT NULL,             -- JSON
    success INTEGER NOT NULL DEFAULT 0,
    failure INTEGER NOT NULL DEFAULT 0,
    UNIQUE (day, domain, policy)
) STRICT;
-- Absent values are empty texts, so that equal rows are equal.
CREATE TABLE session_detail (
    policy       INTEGER NOT NULL,        -- session_policy.id
    result       TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    mx_host      TEXT    NOT NULL,
    mx_helo      TEXT    NOT NULL,
    sending_ip   TEXT    NOT NULL,
    receiving_ip TEXT    NOT NULL,
    count        INTEGER NOT NULL,
    PRIMARY KEY (policy, result, reason, mx_host, mx_helo, sending_ip, receiving_ip)
) STRICT, WITHOUT ROWID;
