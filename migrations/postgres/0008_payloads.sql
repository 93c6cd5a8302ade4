-- What requests carried, as far as telemetry.payloads has it kept: a JSON text, secrets taken out. Times are Unix milliseconds. The text is
-- not jsonb, which would not take every text that a client may send.

CREATE TABLE payloads (
    id         text PRIMARY KEY,
    arrived_at bigint NOT NULL,
    org_id     text NOT NULL,
    content    text NOT NULL
);

CREATE INDEX payloads_by_time ON payloads (arrived_at);

ALTER TABLE payloads ENABLE ROW LEVEL SECURITY;
ALTER TABLE payloads FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON payloads FOR SELECT TO orbyt_app USING (org_id = orbyt_org());
CREATE POLICY system ON payloads TO orbyt_system USING (true) WITH CHECK (true);

GRANT SELECT ON payloads TO orbyt_app;
GRANT SELECT, INSERT, DELETE ON payloads TO orbyt_system;
