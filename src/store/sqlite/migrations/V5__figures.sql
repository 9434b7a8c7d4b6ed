-- Recipients still owed a delivery, counted as they come and go, so that nobody has to walk the queue to know how many
-- wait for what. cause: of those that wait or are held; empty for none, and while an attempt is under way.
CREATE TABLE queue_depth (
    state      INTEGER NOT NULL,
    cause      TEXT    NOT NULL,
    recipients INTEGER NOT NULL,
    PRIMARY KEY (state, cause)
) STRICT, WITHOUT ROWID;
INSERT INTO queue_depth
    SELECT state, CASE state WHEN 2 THEN '' ELSE coalesce(cause, '') END, count(*)
    FROM recipient WHERE state <= 3 GROUP BY 1, 2;

-- For counting without reading rows.
CREATE INDEX suspension_until ON suspension (until);
CREATE INDEX policy_mode ON policy (mode, expires);
CREATE INDEX policy_memory_failing ON policy_memory (refresh_failing_since) WHERE refresh_failing_since IS NOT NULL;
