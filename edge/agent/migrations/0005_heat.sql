-- The heat map alone, beside the pictures for the screen: it may be asked for.
ALTER TABLE picture ADD COLUMN heat BLOB;
