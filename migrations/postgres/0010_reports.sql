-- What usage is reported by, as columns of its own: reading it out of `record` takes too long for many rows.

ALTER TABLE requests ADD COLUMN cached_tokens      bigint NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN cache_write_tokens bigint NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN reasoning_tokens   bigint NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN ttft_us            bigint;
ALTER TABLE requests ADD COLUMN cache              text NOT NULL DEFAULT 'bypass';

-- Rows that are there already: row-level security is forced, so this is done in the role that may see them.
SET LOCAL ROLE orbyt_system;
UPDATE requests SET
    cached_tokens = coalesce((record -> 'usage' ->> 'cached_tokens')::bigint, 0),
    cache_write_tokens = coalesce((record -> 'usage' ->> 'cache_write_tokens')::bigint, 0),
    reasoning_tokens = coalesce((record -> 'usage' ->> 'reasoning_tokens')::bigint, 0),
    ttft_us = (record ->> 'ttft_us')::bigint,
    cache = coalesce(record ->> 'cache', 'bypass');
RESET ROLE;

CREATE INDEX requests_by_org ON requests (org_id, arrived_at, id);
