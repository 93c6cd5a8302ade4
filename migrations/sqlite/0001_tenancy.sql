-- Organisations, their projects, the API keys of those, and the people who look after them. Times are Unix milliseconds.

CREATE TABLE organisations (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE projects (
    id         TEXT PRIMARY KEY,
    org_id     TEXT NOT NULL REFERENCES organisations (id),
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (org_id, name),
    UNIQUE (org_id, id)
) STRICT, WITHOUT ROWID;

INSERT INTO organisations (id, name, created_at) VALUES ('org_default', 'default', 0);
INSERT INTO projects (id, org_id, name, created_at) VALUES ('prj_default', 'org_default', 'default', 0);

-- People who log in to the console.
CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    email         TEXT NOT NULL UNIQUE,
    name          TEXT NOT NULL DEFAULT '',
    password_hash TEXT,
    created_at    INTEGER NOT NULL,
    disabled_at   INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE memberships (
    org_id  TEXT NOT NULL REFERENCES organisations (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    role    TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
    PRIMARY KEY (org_id, user_id)
) STRICT, WITHOUT ROWID;

-- A key keeps its row, and with it its name, limits and history, when it is rotated: its secrets stand in a table of their own.
CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY,
    org_id     TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name       TEXT NOT NULL CHECK (name <> ''),
    owner      TEXT,
    workflow   TEXT,
    scopes     TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(scopes)),
    metadata   TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    disabled   INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    UNIQUE (org_id, id),
    FOREIGN KEY (org_id, project_id) REFERENCES projects (org_id, id)
) STRICT, WITHOUT ROWID;

-- Limits go by the name, so no two keys in force share one.
CREATE UNIQUE INDEX api_keys_name ON api_keys (org_id, name) WHERE revoked_at IS NULL;

CREATE TABLE api_key_secrets (
    sha256     TEXT PRIMARY KEY CHECK (length(sha256) = 64),
    key_id     TEXT NOT NULL,
    org_id     TEXT NOT NULL,
    -- The first 16 hex digits of the hash: by them a key is looked up, the rest is compared in constant time.
    lookup     TEXT NOT NULL GENERATED ALWAYS AS (substr(sha256, 1, 16)) STORED,
    shown      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    FOREIGN KEY (org_id, key_id) REFERENCES api_keys (org_id, id)
) STRICT;

CREATE INDEX api_key_secrets_key ON api_key_secrets (key_id);
CREATE INDEX api_key_secrets_lookup ON api_key_secrets (lookup);

-- What belongs to the gateway itself, such as the hash of the administrator's token.
CREATE TABLE gateway_facts (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Counts the changes that a running gateway has to follow.
CREATE TABLE revision (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    value INTEGER NOT NULL
) STRICT;

INSERT INTO revision (one, value) VALUES (1, 0);

CREATE TRIGGER api_keys_inserted AFTER INSERT ON api_keys BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER api_keys_updated AFTER UPDATE ON api_keys BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER api_keys_deleted AFTER DELETE ON api_keys BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER api_key_secrets_inserted AFTER INSERT ON api_key_secrets BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER api_key_secrets_updated AFTER UPDATE ON api_key_secrets BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER api_key_secrets_deleted AFTER DELETE ON api_key_secrets BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER gateway_facts_inserted AFTER INSERT ON gateway_facts BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER gateway_facts_updated AFTER UPDATE ON gateway_facts BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER gateway_facts_deleted AFTER DELETE ON gateway_facts BEGIN UPDATE revision SET value = value + 1; END;
