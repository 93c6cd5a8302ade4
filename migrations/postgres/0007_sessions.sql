-- Who is logged in to the console. Times are Unix milliseconds.

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
