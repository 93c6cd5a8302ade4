-- Who is logged in to the console, and what was set there. Times are Unix milliseconds.

CREATE TABLE sessions (
    -- Of what the browser has as a cookie.
    sha256       TEXT PRIMARY KEY CHECK (length(sha256) = 64),
    user_id      TEXT REFERENCES users (id),
    -- Of the administrator's token that was shown in the place of a password.
    admin_sha256 TEXT CHECK (length(admin_sha256) = 64),
    address      TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    CHECK ((user_id IS NULL) <> (admin_sha256 IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_user ON sessions (user_id) WHERE user_id IS NOT NULL;

-- Models, presets and routing settings made in the console: what stands in the configuration file goes before them.
CREATE TABLE settings (
    kind       TEXT NOT NULL CHECK (kind IN ('model', 'preset', 'section')),
    name       TEXT NOT NULL CHECK (name <> ''),
    body       TEXT NOT NULL CHECK (json_valid(body)),
    changed_at INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER settings_inserted AFTER INSERT ON settings BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER settings_updated AFTER UPDATE ON settings BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER settings_deleted AFTER DELETE ON settings BEGIN UPDATE revision SET value = value + 1; END;
