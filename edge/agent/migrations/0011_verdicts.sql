-- What reviewers at headquarters said of findings; the newest of a finding counts. labels: what is truly
-- there, empty for nothing, null where they cannot tell.
CREATE TABLE verdict (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    finding TEXT NOT NULL UNIQUE,
    labels TEXT,
    agrees INTEGER,
    reviewed_at TEXT NOT NULL
);
