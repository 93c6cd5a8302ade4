-- Keys of providers, sealed (AES-256-GCM). Those without an organisation are the gateway's own and serve everybody; no organisation sees
-- them.

CREATE TABLE provider_keys (
    id         text PRIMARY KEY,
    org_id     text REFERENCES organisations (id),
    provider   text NOT NULL CHECK (provider <> ''),
    name       text NOT NULL CHECK (name <> ''),
    shown      text NOT NULL,
    created_at bigint NOT NULL,
    envelope   text NOT NULL
);

CREATE UNIQUE INDEX provider_keys_name ON provider_keys (coalesce(org_id, ''), provider, name);

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON provider_keys FOR EACH STATEMENT EXECUTE FUNCTION orbyt_changed();

ALTER TABLE provider_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON provider_keys TO orbyt_app USING (org_id = orbyt_org()) WITH CHECK (org_id = orbyt_org());
CREATE POLICY system ON provider_keys TO orbyt_system USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON provider_keys TO orbyt_app, orbyt_system;
