-- The oldest schema whose agents can still work on this file. An agent that did not prove itself goes back to
-- one that knows fewer migrations: these only add, with defaults, and do not raise this number without need.
CREATE TABLE compatible (oldest INTEGER NOT NULL);
INSERT INTO compatible VALUES (9);
