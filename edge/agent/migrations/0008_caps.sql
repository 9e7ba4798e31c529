-- The size of each waiting message; and those that the broker never takes, set aside with the largest packet
-- that it named (0: it named none and broke off).
ALTER TABLE outbox ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE outbox SET bytes = length(payload);
ALTER TABLE outbox ADD COLUMN aside INTEGER;

-- How many messages of each kind were dropped by a cap, and how many of these an event has told of.
CREATE TABLE dropped (kind TEXT PRIMARY KEY, n INTEGER NOT NULL, told INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;

-- What a metered link carried on the last day; a little more than it was, so that a kill makes it no less.
CREATE TABLE metered (day TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
