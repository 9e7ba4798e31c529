-- What was found in each study, by keyed hash; closings counts how often that was told.
CREATE TABLE study (
    study TEXT PRIMARY KEY,
    case_code TEXT NOT NULL,
    positive INTEGER NOT NULL DEFAULT 0,
    negative INTEGER NOT NULL DEFAULT 0,
    no_result INTEGER NOT NULL DEFAULT 0,
    best TEXT,
    best_rank REAL NOT NULL DEFAULT 0,
    heard REAL NOT NULL DEFAULT 0,
    open INTEGER NOT NULL DEFAULT 1,
    closings INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX study_open ON study (open);
