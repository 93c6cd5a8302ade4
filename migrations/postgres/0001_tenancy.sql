-- Organisations, their projects, the API keys of those, and the people who look after them. Times are Unix milliseconds.
--
-- Two roles, neither of which can log in; the gateway's own user takes them on:
--   orbyt_app     sees what belongs to the organisation named by the setting orbyt.org_id, and nothing where it names none
--   orbyt_system  sees everything: the data plane has to know all keys
-- Row-level security is forced, so that the owner of the tables sees nothing without one of them either.

CREATE TABLE organisations (
    id         text PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    created_at bigint NOT NULL
);

CREATE TABLE projects (
    id         text PRIMARY KEY,
    org_id     text NOT NULL REFERENCES organisations (id),
    name       text NOT NULL,
    created_at bigint NOT NULL,
    UNIQUE (org_id, name),
    UNIQUE (org_id, id)
);

INSERT INTO organisations (id, name, created_at) VALUES ('org_default', 'default', 0);
INSERT INTO projects (id, org_id, name, created_at) VALUES ('prj_default', 'org_default', 'default', 0);

-- People who log in to the console.
CREATE TABLE users (
    id            text PRIMARY KEY,
    email         text NOT NULL UNIQUE,
    name          text NOT NULL DEFAULT '',
    password_hash text,
    created_at    bigint NOT NULL,
    disabled_at   bigint
);

CREATE TABLE memberships (
    org_id  text NOT NULL REFERENCES organisations (id),
    user_id text NOT NULL REFERENCES users (id),
    role    text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
    PRIMARY KEY (org_id, user_id)
);

-- A key keeps its row, and with it its name, limits and history, when it is rotated: its secrets stand in a table of their own.
CREATE TABLE api_keys (
    id         text PRIMARY KEY,
    org_id     text NOT NULL,
    project_id text NOT NULL,
    name       text NOT NULL CHECK (name <> ''),
    owner      text,
    workflow   text,
    scopes     jsonb NOT NULL DEFAULT '{}',
    metadata   jsonb NOT NULL DEFAULT '{}',
    disabled   boolean NOT NULL DEFAULT false,
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    UNIQUE (org_id, id),
    FOREIGN KEY (org_id, project_id) REFERENCES projects (org_id, id)
);

-- Limits go by the name, so no two keys in force share one.
CREATE UNIQUE INDEX api_keys_name ON api_keys (org_id, name) WHERE revoked_at IS NULL;

CREATE TABLE api_key_secrets (
    sha256     text PRIMARY KEY CHECK (length(sha256) = 64),
    key_id     text NOT NULL,
    org_id     text NOT NULL,
    -- The first 16 hex digits of the hash: by them a key is looked up, the rest is compared in constant time.
    lookup     text NOT NULL GENERATED ALWAYS AS (substr(sha256, 1, 16)) STORED,
    shown      text NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint,
    FOREIGN KEY (org_id, key_id) REFERENCES api_keys (org_id, id)
);

CREATE INDEX api_key_secrets_key ON api_key_secrets (key_id);
CREATE INDEX api_key_secrets_lookup ON api_key_secrets (lookup);

-- What belongs to the gateway itself, such as the hash of the administrator's token.
CREATE TABLE gateway_facts (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- Tells every gateway that listens. A notification is sent when the transaction is committed, and once however often it was asked for.
CREATE FUNCTION orbyt_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('orbyt_changed', '');
    RETURN NULL;
END $$;

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON api_keys FOR EACH STATEMENT EXECUTE FUNCTION orbyt_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON api_key_secrets FOR EACH STATEMENT EXECUTE FUNCTION orbyt_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON gateway_facts FOR EACH STATEMENT EXECUTE FUNCTION orbyt_changed();

-- The organisation that a transaction works for. It is NULL where none was named, and NULL is equal to nothing.
CREATE FUNCTION orbyt_org() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT nullif(current_setting('orbyt.org_id', true), '')
$$;

ALTER TABLE organisations ENABLE ROW LEVEL SECURITY;
ALTER TABLE organisations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON organisations TO orbyt_app USING (id = orbyt_org()) WITH CHECK (id = orbyt_org());
CREATE POLICY system ON organisations TO orbyt_system USING (true) WITH CHECK (true);

ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE projects FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON projects TO orbyt_app USING (org_id = orbyt_org()) WITH CHECK (org_id = orbyt_org());
CREATE POLICY system ON projects TO orbyt_system USING (true) WITH CHECK (true);

ALTER TABLE memberships ENABLE ROW LEVEL SECURITY;
ALTER TABLE memberships FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON memberships TO orbyt_app USING (org_id = orbyt_org()) WITH CHECK (org_id = orbyt_org());
CREATE POLICY system ON memberships TO orbyt_system USING (true) WITH CHECK (true);

ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON api_keys TO orbyt_app USING (org_id = orbyt_org()) WITH CHECK (org_id = orbyt_org());
CREATE POLICY system ON api_keys TO orbyt_system USING (true) WITH CHECK (true);

ALTER TABLE api_key_secrets ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_key_secrets FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON api_key_secrets TO orbyt_app USING (org_id = orbyt_org()) WITH CHECK (org_id = orbyt_org());
CREATE POLICY system ON api_key_secrets TO orbyt_system USING (true) WITH CHECK (true);

-- A person is visible to the organisations that they are a member of.
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
ALTER TABLE users FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON users FOR SELECT TO orbyt_app
    USING (EXISTS (SELECT FROM memberships WHERE user_id = users.id AND org_id = orbyt_org()));
CREATE POLICY system ON users TO orbyt_system USING (true) WITH CHECK (true);

ALTER TABLE gateway_facts ENABLE ROW LEVEL SECURITY;
ALTER TABLE gateway_facts FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON gateway_facts TO orbyt_system USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON projects, memberships, api_keys, api_key_secrets TO orbyt_app;
GRANT SELECT ON organisations, users TO orbyt_app;
GRANT SELECT, INSERT, UPDATE, DELETE
    ON organisations, projects, users, memberships, api_keys, api_key_secrets, gateway_facts TO orbyt_system;
