-- What requests carried, as far as telemetry.payloads has it kept: a JSON text, secrets taken out. Times are Unix milliseconds.

CREATE TABLE payloads (
    id         TEXT PRIMARY KEY,
    arrived_at INTEGER NOT NULL,
    org_id     TEXT NOT NULL,
    content    TEXT NOT NULL
) STRICT;

CREATE INDEX payloads_by_time ON payloads (arrived_at);
