-- What may be spent, and what was paid in advance. Amounts are whole pico-dollars, as text: they do not fit into 64 bits.

CREATE TABLE budgets (
    id         text PRIMARY KEY,
    org_id     text NOT NULL REFERENCES organisations (id),
    payer      text NOT NULL CHECK (payer IN ('org', 'project', 'key', 'user')),
    -- The id of what it is for; a key of the configuration goes by its name, `*` is each user.
    subject    text NOT NULL CHECK (subject <> ''),
    span       text NOT NULL CHECK (span IN ('day', 'week', 'month', 'total')),
    amount     text NOT NULL CHECK (amount ~ '^[0-9]+$'),
    created_at bigint NOT NULL,
    UNIQUE (org_id, payer, subject, span)
);

CREATE TABLE credits (
    id           text PRIMARY KEY,
    org_id       text NOT NULL REFERENCES organisations (id),
    amount       text NOT NULL,
    spent_before text NOT NULL,
    note         text NOT NULL,
    created_at   bigint NOT NULL
);

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON budgets FOR EACH STATEMENT EXECUTE FUNCTION orbyt_changed();
CREATE TRIGGER changed AFTER INSERT ON credits FOR EACH STATEMENT EXECUTE FUNCTION orbyt_changed();

-- Money that was paid in is never made to disappear: a mistake is corrected by another row.
CREATE FUNCTION orbyt_credits_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'credits are append-only';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credits
    FOR EACH STATEMENT EXECUTE FUNCTION orbyt_credits_are_append_only();

ALTER TABLE budgets ENABLE ROW LEVEL SECURITY;
ALTER TABLE budgets FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON budgets TO orbyt_app USING (org_id = orbyt_org()) WITH CHECK (org_id = orbyt_org());
CREATE POLICY system ON budgets TO orbyt_system USING (true) WITH CHECK (true);

ALTER TABLE credits ENABLE ROW LEVEL SECURITY;
ALTER TABLE credits FORCE ROW LEVEL SECURITY;
-- An organisation sees what it has paid, and cannot say that it has.
CREATE POLICY tenant ON credits FOR SELECT TO orbyt_app USING (org_id = orbyt_org());
CREATE POLICY system ON credits TO orbyt_system USING (true) WITH CHECK (true);

GRANT SELECT ON budgets, credits TO orbyt_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON budgets TO orbyt_system;
GRANT SELECT, INSERT ON credits TO orbyt_system;

-- What is booked for a request: its cost, and that of answers that nobody has taken and of the comparing of its question. Empty in older rows,
-- for which the cost alone was booked.
ALTER TABLE requests ADD COLUMN charge bigint;
