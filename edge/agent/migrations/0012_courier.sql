-- The parcels that left by stick and whose receipts have not come back, and the messages in each.
CREATE TABLE parcel (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, token BLOB NOT NULL);
CREATE TABLE parcel_message (
    number INTEGER NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (number, id)
) WITHOUT ROWID;
