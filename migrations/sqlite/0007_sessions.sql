-- Who is logged in to the console. Times are Unix milliseconds.

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
