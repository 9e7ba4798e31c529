-- What was done on this device, for good: each row holds the hash of the one before it.
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    stamp TEXT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL
);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit
WHEN NEW.seq <= (SELECT max(seq) FROM audit)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

-- Wall clock less monotonic clock, in seconds, each time a boot's wall clock became known.
CREATE TABLE clock_offset (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    boot_id TEXT NOT NULL,
    offset_s REAL NOT NULL
);
CREATE INDEX clock_offset_boot ON clock_offset (boot_id);
