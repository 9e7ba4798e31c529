-- Which DICOM instance an original is, by keyed hash: a machine may ask whether the archive has it.
ALTER TABLE original ADD COLUMN sop TEXT;
CREATE INDEX original_sop ON original (sop);

-- How many of a study's closings were reported to the archive.
ALTER TABLE study ADD COLUMN reported INTEGER NOT NULL DEFAULT 0;
