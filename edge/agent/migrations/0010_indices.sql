-- What screen, health and senders ask again and again is answered from an index, however much waits.
DROP INDEX outbox_order;
CREATE INDEX outbox_order ON outbox (priority, aside, seq, bytes);

DROP INDEX study_open;
CREATE INDEX study_open ON study (open, heard);
CREATE INDEX study_unreported ON study (heard) WHERE open = 0 AND reported < closings;

CREATE INDEX original_waiting ON original (refused, seq) WHERE forwarded IS NULL;
CREATE INDEX original_study ON original (study);
CREATE INDEX original_age ON original (created);
CREATE INDEX original_bytes ON original (forwarded IS NULL, seq, bytes, name);

CREATE INDEX patient_age ON patient (created);
