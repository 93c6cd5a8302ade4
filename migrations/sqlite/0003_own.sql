-- What belongs to one key or one project alone: limits of a key, keys of providers that a project brings.

ALTER TABLE api_keys ADD COLUMN limits TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(limits));

-- The project whose own the key is; without one it is the organisation's.
ALTER TABLE provider_keys ADD COLUMN project_id TEXT REFERENCES projects (id);

-- A column that is added later cannot be part of a foreign key of two.
CREATE TRIGGER provider_keys_project BEFORE INSERT ON provider_keys
WHEN NEW.project_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM projects WHERE id = NEW.project_id AND org_id = NEW.org_id)
BEGIN
    SELECT RAISE(ABORT, 'FOREIGN KEY: the project is of another organisation');
END;
