-- Who a study is of: sealed with the device's key. A study has more than one row if its files disagree.
CREATE TABLE patient (
    study TEXT NOT NULL,
    mark TEXT NOT NULL,
    created REAL NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (study, mark)
) WITHOUT ROWID;

-- The files of the encrypted spool, by keyed hashes.
CREATE TABLE original (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    study TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    created REAL NOT NULL,
    forwarded REAL,
    refused REAL
);
