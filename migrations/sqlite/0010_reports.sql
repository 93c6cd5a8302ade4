-- What usage is reported by, as columns of its own: reading it out of `record` takes too long for many rows.

ALTER TABLE requests ADD COLUMN cached_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN cache_write_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN reasoning_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN ttft_us INTEGER;
ALTER TABLE requests ADD COLUMN cache TEXT NOT NULL DEFAULT 'bypass';

UPDATE requests SET
    cached_tokens = coalesce(json_extract(record, '$.usage.cached_tokens'), 0),
    cache_write_tokens = coalesce(json_extract(record, '$.usage.cache_write_tokens'), 0),
    reasoning_tokens = coalesce(json_extract(record, '$.usage.reasoning_tokens'), 0),
    ttft_us = json_extract(record, '$.ttft_us'),
    cache = coalesce(json_extract(record, '$.cache'), 'bypass');

CREATE INDEX requests_by_org ON requests (org_id, arrived_at, id);
