-- TLS reports (RFC 8460): what was counted for each day and report domain, and the reports made of it.

-- One row per UTC day and report domain with anything counted. It goes, with all below it, in the commit that makes
-- the report, finds it unwanted, or drops the day (RPT-93).
CREATE TABLE counted_day (
    id       INTEGER PRIMARY KEY,
    day      TEXT    NOT NULL,            -- YYYY-MM-DD
    domain   TEXT    NOT NULL,            -- the report domain
    policies INTEGER NOT NULL,            -- rows below, so that bounds are known without counting (RPT-30)
    details  INTEGER NOT NULL,
    planned  INTEGER NOT NULL DEFAULT 0,
    UNIQUE (day, domain)
) STRICT;
CREATE INDEX counted_day_unplanned ON counted_day (day) WHERE planned = 0;

CREATE TABLE counted_policy (
    id      INTEGER PRIMARY KEY,
    counted INTEGER NOT NULL,             -- counted_day.id
    policy  TEXT    NOT NULL,             -- JSON
    success INTEGER NOT NULL,
    failure INTEGER NOT NULL,
    UNIQUE (counted, policy)
) STRICT;

-- Absent values are empty texts, so that equal rows are equal.
CREATE TABLE counted_detail (
    policy       INTEGER NOT NULL,        -- counted_policy.id
    result       TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    mx_host      TEXT    NOT NULL,
    mx_helo      TEXT    NOT NULL,
    sending_ip   TEXT    NOT NULL,
    receiving_ip TEXT    NOT NULL,
    count        INTEGER NOT NULL,
    PRIMARY KEY (policy, result, reason, mx_host, mx_helo, sending_ip, receiving_ip)
) STRICT, WITHOUT ROWID;

INSERT INTO counted_day (day, domain, policies, details)
    SELECT p.day, p.domain, count(*),
           (SELECT count(*) FROM session_policy q JOIN session_detail d ON d.policy = q.id
            WHERE q.day = p.day AND q.domain = p.domain)
    FROM session_policy p GROUP BY p.day, p.domain;
INSERT INTO counted_policy (id, counted, policy, success, failure)
    SELECT p.id, c.id, p.policy, p.success, p.failure
    FROM session_policy p JOIN counted_day c ON c.day = p.day AND c.domain = p.domain;
INSERT INTO counted_detail SELECT * FROM session_detail;
DROP TABLE session_detail;
DROP TABLE session_policy;

CREATE TABLE report (
    no        INTEGER PRIMARY KEY AUTOINCREMENT,
    day       TEXT    NOT NULL,
    domain    TEXT    NOT NULL,
    partial   INTEGER NOT NULL,           -- 1: a copy for the running day
    -- 0 planned, 1 made, 2 unwanted, 3 dropped
    state     INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
    due       INTEGER NOT NULL,           -- as drawn (RPT-70)
    at        INTEGER NOT NULL,           -- planned: when its turn comes; else when it was made or ended
    put_off   INTEGER NOT NULL DEFAULT 0,
    why       TEXT    NOT NULL DEFAULT '',
    success   INTEGER NOT NULL DEFAULT 0,
    failure   INTEGER NOT NULL DEFAULT 0,
    report_id TEXT    UNIQUE,
    file_name TEXT,
    packed    BLOB,
    CHECK ((state = 1) = (packed IS NOT NULL) AND (state = 1) = (report_id IS NOT NULL))
) STRICT;
-- Exactly one per closed day and domain, for as long as it is known (RPT-70).
CREATE UNIQUE INDEX report_once ON report (day, domain) WHERE partial = 0;
CREATE INDEX report_listed ON report (day, domain);
CREATE INDEX report_planned ON report (at) WHERE state = 0;

CREATE TABLE report_destination (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    report   INTEGER NOT NULL,            -- report.no
    run      INTEGER NOT NULL,            -- 0, and one more for each --again
    n        INTEGER NOT NULL,            -- its place in the rua field
    uri      TEXT    NOT NULL,
    by_mail  INTEGER NOT NULL CHECK (by_mail IN (0, 1)),
    receiver TEXT    NOT NULL,
    mail     BLOB    NOT NULL CHECK (length(mail) = 16),
    -- 0 waiting, 1 queued, 2 accepted, 3 failed
    state    INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
    attempts INTEGER NOT NULL DEFAULT 0,
    first    INTEGER,
    next     INTEGER NOT NULL,
    reply    TEXT    NOT NULL DEFAULT '',
    UNIQUE (report, run, n)
) STRICT;
CREATE INDEX report_destination_due    ON report_destination (by_mail, next) WHERE state = 0;
CREATE INDEX report_destination_queued ON report_destination (mail) WHERE state = 1;

-- What each receiver was sent per UTC day of sending (RPT-10).
CREATE TABLE report_receiver (
    day      TEXT    NOT NULL,
    receiver TEXT    NOT NULL,
    sent     INTEGER NOT NULL,
    PRIMARY KEY (day, receiver)
) STRICT, WITHOUT ROWID;
