-- Exceptions that ended before their day, because a session showed that the domain is sound again. The key names domain,
-- permission and last day, so that an exception granted anew is another one.
CREATE TABLE ended_exception (
    key   TEXT PRIMARY KEY,
    ended INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
