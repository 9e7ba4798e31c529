-- What differs between SQLite and PostgreSQL stands in braces; see database.py. Times are seconds since 1970,
-- UTC, by the monitor's clock unless it says otherwise. Payloads are the JSON texts as they came.

-- The name of this store at the broker, which keeps for it what arrives while it is away.
CREATE TABLE receiver (name TEXT NOT NULL);

-- Each cart that was ever heard, with what it last said. changed grows with every change of a row.
CREATE TABLE device (
    site TEXT NOT NULL,
    device TEXT NOT NULL,
    first_heard {real} NOT NULL,
    last_heard {real} NOT NULL,
    changed {real} NOT NULL,
    online BOOLEAN,
    online_since {real},
    birth TEXT,
    birth_at {real},
    agent_version TEXT,
    target TEXT,
    bundles TEXT,
    unsigned BOOLEAN,
    health TEXT,
    health_at {real},
    clock_trusted BOOLEAN,
    clock_off_s {real},
    backlog {real},
    backlog_oldest_s {real},
    disk_free_mb {real},
    disk_days {real},
    temperature_celsius {real},
    throttled BOOLEAN,
    refusing BOOLEAN,
    certificate_days {real},
    storage_wear_percent {real},
    set_aside {real},
    last_finding {real},
    last_good {real},
    last_good_case TEXT,
    twice_at {real},
    retired_at {real},
    PRIMARY KEY (site, device)
);
CREATE INDEX device_changed ON device (changed);

-- How carts were, one sample a cart in each ten minutes, thinned to hours later; at is the period's begin.
CREATE TABLE health_sample (
    site TEXT NOT NULL,
    device TEXT NOT NULL,
    at BIGINT NOT NULL,
    temperature_celsius {real},
    disk_free_mb {real},
    memory_mb {real},
    load {real},
    backlog {real},
    inference_ms {real},
    PRIMARY KEY (site, device, at)
);
CREATE INDEX health_sample_at ON health_sample (at);

-- Findings as they came, the first of each id. An id is the device's own: another device cannot take it.
-- at is when the cart decided; where its clock is not to be believed it is when the finding came
-- (time_known is false).
CREATE TABLE finding (
    seq {serial},
    site TEXT NOT NULL,
    device TEXT NOT NULL,
    id TEXT NOT NULL,
    at {real} NOT NULL,
    time_known BOOLEAN NOT NULL,
    received {real} NOT NULL,
    bundle TEXT NOT NULL,
    version TEXT NOT NULL,
    decision TEXT NOT NULL,
    label TEXT,
    probability {real},
    test BOOLEAN NOT NULL,
    case_code TEXT NOT NULL,
    study TEXT NOT NULL,
    priority {real} NOT NULL,
    reviewed BOOLEAN NOT NULL,
    payload TEXT NOT NULL,
    UNIQUE (site, device, id)
);
CREATE INDEX finding_at ON finding (at);
CREATE INDEX finding_device ON finding (site, device, at);
CREATE INDEX finding_id ON finding (id);
-- The reviewers' work list.
CREATE INDEX finding_review ON finding (priority, at) WHERE NOT reviewed AND NOT test;

-- Where the model looked, without any pixel of the image: PNG files.
CREATE TABLE overlay (
    site TEXT NOT NULL,
    device TEXT NOT NULL,
    finding TEXT NOT NULL,
    received {real} NOT NULL,
    png {bytes} NOT NULL,
    PRIMARY KEY (site, device, finding)
);
CREATE INDEX overlay_received ON overlay (received);

-- Events that carts tell, and those of the monitor itself (origin 'monitor'; site and device are whom they
-- are about, empty where that is nobody).
CREATE TABLE event (
    seq {serial},
    site TEXT NOT NULL,
    device TEXT NOT NULL,
    id TEXT NOT NULL,
    origin TEXT NOT NULL,
    at {real} NOT NULL,
    received {real} NOT NULL,
    severity TEXT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    data TEXT NOT NULL,
    UNIQUE (site, device, id)
);
CREATE INDEX event_at ON event (at);
CREATE INDEX event_device ON event (site, device, at);
CREATE INDEX event_code ON event (code, at);

-- Commands to carts: sent once by whichever worker takes them, with the cart's answer.
CREATE TABLE command (
    id TEXT PRIMARY KEY,
    site TEXT NOT NULL,
    device TEXT NOT NULL,
    name TEXT NOT NULL,
    arguments TEXT NOT NULL,
    ordered_at {real} NOT NULL,
    ordered_by TEXT NOT NULL,
    sent_at {real},
    answered_at {real},
    ok BOOLEAN,
    error TEXT,
    result TEXT
);
CREATE INDEX command_waiting ON command (ordered_at) WHERE sent_at IS NULL;
CREATE INDEX command_device ON command (site, device, ordered_at);

-- What reviewers say of findings; the newest of a finding counts. labels is a JSON list of what is truly
-- there, [] for nothing, null where the reviewer cannot tell. told: the cart has it, or refused it.
CREATE TABLE verdict (
    seq {serial},
    site TEXT NOT NULL,
    device TEXT NOT NULL,
    finding TEXT NOT NULL,
    reviewer TEXT NOT NULL,
    at {real} NOT NULL,
    labels TEXT,
    agrees BOOLEAN,
    command TEXT,
    told BOOLEAN NOT NULL,
    problem TEXT
);
CREATE INDEX verdict_finding ON verdict (site, device, finding, seq);
CREATE INDEX verdict_untold ON verdict (site, device) WHERE NOT told;

-- Who may use the page; password is a scrypt hash.
CREATE TABLE account (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    password TEXT NOT NULL,
    created {real} NOT NULL
);
CREATE TABLE session (
    token TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    csrf TEXT NOT NULL,
    created {real} NOT NULL,
    used {real} NOT NULL
);

-- What was done here, for good: each row's hash covers it and the row before it.
CREATE TABLE audit (
    seq BIGINT PRIMARY KEY,
    at {real} NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL
);

-- How findings were distributed, by the day they are of (days since 1970): counts, never images.
CREATE TABLE histogram (
    site TEXT NOT NULL,
    bundle TEXT NOT NULL,
    version TEXT NOT NULL,
    measure TEXT NOT NULL,
    day BIGINT NOT NULL,
    bin INTEGER NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (site, bundle, version, measure, day, bin)
);
-- What later distributions are held against; counts is a JSON list.
CREATE TABLE baseline (
    site TEXT NOT NULL,
    bundle TEXT NOT NULL,
    version TEXT NOT NULL,
    measure TEXT NOT NULL,
    counts TEXT NOT NULL,
    first_day BIGINT NOT NULL,
    last_day BIGINT NOT NULL,
    taken_at {real} NOT NULL,
    taken_by TEXT NOT NULL,
    PRIMARY KEY (site, bundle, version, measure)
);

-- Rollouts of a bundle's version over carts; plan is JSON. site is empty where it is for all sites.
CREATE TABLE rollout (
    id TEXT PRIMARY KEY,
    created {real} NOT NULL,
    created_by TEXT NOT NULL,
    bundle TEXT NOT NULL,
    version TEXT NOT NULL,
    site TEXT NOT NULL,
    plan TEXT NOT NULL,
    stage INTEGER NOT NULL,
    stage_since {real} NOT NULL,
    state TEXT NOT NULL,
    reason TEXT
);
CREATE TABLE rollout_device (
    rollout TEXT NOT NULL,
    site TEXT NOT NULL,
    device TEXT NOT NULL,
    stage INTEGER NOT NULL,
    state TEXT NOT NULL,
    since {real} NOT NULL,
    command TEXT,
    detail TEXT,
    PRIMARY KEY (rollout, site, device)
);
CREATE INDEX rollout_device_device ON rollout_device (site, device);
