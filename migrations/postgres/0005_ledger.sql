-- The ledger: every finished request once, and what was spent. Times are Unix milliseconds, days are counted from the epoch in UTC, money is in
-- pico-dollars. The columns are what requests are found by; the whole row stands in `record`.

CREATE TABLE requests (
    id                text NOT NULL,
    revision          smallint NOT NULL,
    arrived_at        bigint NOT NULL,
    day               integer NOT NULL,
    org_id            text NOT NULL,
    project_id        text NOT NULL,
    key_id            text NOT NULL,
    key_name          text NOT NULL,
    user_id           text,
    trace_id          text,
    session_id        text,
    requested_model   text,
    provider          text,
    model             text,
    status            integer NOT NULL,
    ended             text NOT NULL,
    latency_us        bigint NOT NULL,
    prompt_tokens     bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    cost              bigint,
    record            jsonb NOT NULL,
    -- A request arrives on one day only, so its id alone is unique too.
    PRIMARY KEY (id, day)
) PARTITION BY RANGE (day);

CREATE INDEX requests_by_time ON requests (arrived_at, id);
CREATE INDEX requests_by_trace ON requests (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX requests_by_session ON requests (session_id) WHERE session_id IS NOT NULL;

-- Sums of the rows that were ever in `requests`; they stay when those are dropped.
CREATE TABLE spend (
    org_id            text NOT NULL,
    project_id        text NOT NULL,
    key_id            text NOT NULL,
    -- Empty where the client names nobody.
    user_id           text NOT NULL,
    day               integer NOT NULL,
    requests          bigint NOT NULL,
    prompt_tokens     bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    cost              numeric(38, 0) NOT NULL,
    PRIMARY KEY (org_id, project_id, key_id, user_id, day)
);

CREATE INDEX spend_by_project ON spend (project_id, day);
CREATE INDEX spend_by_key ON spend (key_id, day);
CREATE INDEX spend_by_user ON spend (org_id, user_id, day);

ALTER TABLE requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE requests FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON requests FOR SELECT TO orbyt_app USING (org_id = orbyt_org());
CREATE POLICY system ON requests TO orbyt_system USING (true) WITH CHECK (true);

ALTER TABLE spend ENABLE ROW LEVEL SECURITY;
ALTER TABLE spend FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON spend FOR SELECT TO orbyt_app USING (org_id = orbyt_org());
CREATE POLICY system ON spend TO orbyt_system USING (true) WITH CHECK (true);

GRANT SELECT ON requests, spend TO orbyt_app;
GRANT SELECT, INSERT, UPDATE ON requests, spend TO orbyt_system;

-- Tables are made and dropped by their owner alone, so the gateway does it by these two. Nobody has rights on a day's table itself; its
-- rows are seen through the whole.
CREATE FUNCTION orbyt_ledger_day(wanted integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    part text := 'requests_' || wanted;
BEGIN
    IF to_regclass(part) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Of several gateways one makes it: `orbytd` in ASCII.
    PERFORM pg_advisory_xact_lock(122532302353508);
    EXECUTE format('CREATE TABLE %I PARTITION OF requests FOR VALUES FROM (%s) TO (%s)', part, wanted, wanted + 1);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', part);
EXCEPTION WHEN duplicate_table THEN
    -- Another one has, while this one waited.
    NULL;
END $$;

CREATE FUNCTION orbyt_ledger_forget(before integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    part record;
BEGIN
    FOR part IN
        SELECT child.relname AS name FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
        WHERE inhparent = 'requests'::regclass AND substr(child.relname, 10)::integer < before
    LOOP
        EXECUTE format('DROP TABLE IF EXISTS %I', part.name);
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION orbyt_ledger_day(integer), orbyt_ledger_forget(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION orbyt_ledger_day(integer), orbyt_ledger_forget(integer) TO orbyt_system;
