-- What is to be told, in the order it was decided; a row stays until the receiver has it.
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    priority INTEGER NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    created REAL NOT NULL
);
CREATE INDEX outbox_order ON outbox (priority, seq);

-- Keyed hashes of all that was handled: frames (one for each bundle) and whole files.
CREATE TABLE seen (mark TEXT PRIMARY KEY) WITHOUT ROWID;

-- The last findings, for the screen.
CREATE TABLE finding (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    created REAL NOT NULL,
    payload TEXT NOT NULL
);
CREATE INDEX finding_created ON finding (created);
CREATE TABLE picture (seq INTEGER PRIMARY KEY, image BLOB, overlay BLOB);

-- Commands taken, so that none is taken twice.
CREATE TABLE nonce (seq INTEGER PRIMARY KEY AUTOINCREMENT, nonce TEXT NOT NULL UNIQUE);
