-- The ledger: every finished request once, and what was spent. Times are Unix milliseconds, days are counted from the epoch in UTC, money is in
-- pico-dollars. The columns are what requests are found by; the whole row stands in `record`, as JSON.

CREATE TABLE requests (
    id                TEXT PRIMARY KEY,
    revision          INTEGER NOT NULL,
    arrived_at        INTEGER NOT NULL,
    day               INTEGER NOT NULL,
    org_id            TEXT NOT NULL,
    project_id        TEXT NOT NULL,
    key_id            TEXT NOT NULL,
    key_name          TEXT NOT NULL,
    user_id           TEXT,
    trace_id          TEXT,
    session_id        TEXT,
    requested_model   TEXT,
    provider          TEXT,
    model             TEXT,
    status            INTEGER NOT NULL,
    ended             TEXT NOT NULL,
    latency_us        INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost              INTEGER,
    record            TEXT NOT NULL
) STRICT;

CREATE INDEX requests_by_time ON requests (arrived_at, id);
CREATE INDEX requests_by_trace ON requests (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX requests_by_session ON requests (session_id) WHERE session_id IS NOT NULL;

-- Sums of the rows that were ever in `requests`; they stay when those are deleted.
CREATE TABLE spend (
    org_id            TEXT NOT NULL,
    project_id        TEXT NOT NULL,
    key_id            TEXT NOT NULL,
    -- Empty where the client names nobody.
    user_id           TEXT NOT NULL,
    day               INTEGER NOT NULL,
    requests          INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost              INTEGER NOT NULL,
    PRIMARY KEY (org_id, project_id, key_id, user_id, day)
) STRICT, WITHOUT ROWID;

CREATE INDEX spend_by_project ON spend (project_id, day);
CREATE INDEX spend_by_key ON spend (key_id, day);
CREATE INDEX spend_by_user ON spend (org_id, user_id, day);
