-- Who changed what, when and from where: rows are added, never changed or taken away, and each row's hash covers the one before it.

CREATE TABLE audit (
    seq     bigint PRIMARY KEY CHECK (seq > 0),
    at      bigint NOT NULL,
    -- The organisation that it is about, if any. It need not be there any more.
    org_id  text,
    actor   text NOT NULL,
    origin  text NOT NULL,
    action  text NOT NULL,
    target  text NOT NULL,
    details text NOT NULL,
    hash    text NOT NULL CHECK (length(hash) = 64)
);

CREATE FUNCTION orbyt_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION orbyt_audit_is_append_only();

ALTER TABLE audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit FOR SELECT TO orbyt_app USING (org_id = orbyt_org());
CREATE POLICY system_reads ON audit FOR SELECT TO orbyt_system USING (true);
CREATE POLICY system_adds ON audit FOR INSERT TO orbyt_system WITH CHECK (true);

GRANT SELECT ON audit TO orbyt_app;
-- Postgres asks for UPDATE to lock a table against others that add. No policy and the trigger leave nothing to be done with it.
GRANT SELECT, INSERT, UPDATE ON audit TO orbyt_system;
