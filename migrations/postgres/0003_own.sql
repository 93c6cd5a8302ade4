-- What belongs to one key or one project alone: limits of a key, keys of providers that a project brings.

ALTER TABLE api_keys ADD COLUMN limits jsonb NOT NULL DEFAULT '{}';

-- The project whose own the key is; without one it is the organisation's.
ALTER TABLE provider_keys ADD COLUMN project_id text CHECK (project_id IS NULL OR org_id IS NOT NULL);
ALTER TABLE provider_keys ADD FOREIGN KEY (org_id, project_id) REFERENCES projects (org_id, id);
