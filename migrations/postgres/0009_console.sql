-- Who is logged in to the console, and what was set there. Times are Unix milliseconds.

CREATE TABLE sessions (
    -- Of what the browser has as a cookie.
    sha256       text PRIMARY KEY CHECK (length(sha256) = 64),
    user_id      text REFERENCES users (id),
    -- Of the administrator's token that was shown in the place of a password.
    admin_sha256 text CHECK (length(admin_sha256) = 64),
    address      text NOT NULL,
    created_at   bigint NOT NULL,
    expires_at   bigint NOT NULL,
    CHECK ((user_id IS NULL) <> (admin_sha256 IS NULL))
);

CREATE INDEX sessions_user ON sessions (user_id) WHERE user_id IS NOT NULL;

ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON sessions TO orbyt_system USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, DELETE ON sessions TO orbyt_system;

-- Models, presets and routing settings made in the console: what stands in the configuration file goes before them. The body is JSON, kept
-- as it was written.
CREATE TABLE settings (
    kind       text NOT NULL CHECK (kind IN ('model', 'preset', 'section')),
    name       text NOT NULL CHECK (name <> ''),
    body       text NOT NULL,
    changed_at bigint NOT NULL,
    changed_by text NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON settings FOR EACH STATEMENT EXECUTE FUNCTION orbyt_changed();

ALTER TABLE settings ENABLE ROW LEVEL SECURITY;
ALTER TABLE settings FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON settings TO orbyt_system USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON settings TO orbyt_system;
