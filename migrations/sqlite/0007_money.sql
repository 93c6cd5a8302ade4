-- What may be spent, and what was paid in advance. Amounts are whole pico-dollars, as text: they do not fit into 64 bits.

CREATE TABLE budgets (
    id         TEXT PRIMARY KEY,
    org_id     TEXT NOT NULL REFERENCES organisations (id),
    payer      TEXT NOT NULL CHECK (payer IN ('org', 'project', 'key', 'user')),
    -- The id of what it is for; a key of the configuration goes by its name, `*` is each user.
    subject    TEXT NOT NULL CHECK (subject <> ''),
    span       TEXT NOT NULL CHECK (span IN ('day', 'week', 'month', 'total')),
    amount     TEXT NOT NULL CHECK (amount GLOB '[0-9]*' AND NOT amount GLOB '*[^0-9]*'),
    created_at INTEGER NOT NULL,
    UNIQUE (org_id, payer, subject, span)
) STRICT, WITHOUT ROWID;

CREATE TABLE credits (
    id           TEXT PRIMARY KEY,
    org_id       TEXT NOT NULL REFERENCES organisations (id),
    amount       TEXT NOT NULL,
    spent_before TEXT NOT NULL,
    note         TEXT NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER budgets_inserted AFTER INSERT ON budgets BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER budgets_updated AFTER UPDATE ON budgets BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER budgets_deleted AFTER DELETE ON budgets BEGIN UPDATE revision SET value = value + 1; END;
CREATE TRIGGER credits_inserted AFTER INSERT ON credits BEGIN UPDATE revision SET value = value + 1; END;

-- Money that was paid in is never made to disappear: a mistake is corrected by another row.
CREATE TRIGGER credits_not_updated BEFORE UPDATE ON credits BEGIN SELECT RAISE(ABORT, 'credits are append-only'); END;
CREATE TRIGGER credits_not_deleted BEFORE DELETE ON credits BEGIN SELECT RAISE(ABORT, 'credits are append-only'); END;

-- What is booked for a request: its cost, and that of answers that nobody has taken and of the comparing of its question. Empty in older rows,
-- for which the cost alone was booked.
ALTER TABLE requests ADD COLUMN charge INTEGER;
