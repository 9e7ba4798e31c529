-- What was measured over a study's newest clip, as JSON: numbers by name, or the reason for their absence.
ALTER TABLE study ADD COLUMN measured TEXT;
