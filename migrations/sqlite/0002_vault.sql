-- Keys of providers, sealed (AES-256-GCM). Those without an organisation are the gateway's own and serve everybody.

CREATE TABLE provider_keys (
    id         TEXT PRIMARY KEY,
    org_id     TEXT REFERENCES organisations (id),
    provider   TEXT NOT NULL CHECK (provider <> ''),
    name       TEXT NOT NULL CHECK (name <> ''),
    shown      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    envelope   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX provider_keys_name ON provider_keys (coalesce(org_id, ''), provider, name);

CREATE TRIGGER provider_keys_inserted AFTER INSERT ON provider_keys BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER provider_keys_updated AFTER UPDATE ON provider_keys BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER provider_keys_deleted AFTER DELETE ON provider_keys BEGIN UPDATE revision SET value = value + 1; END;
