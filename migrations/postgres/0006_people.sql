-- An organisation sees its people, and not what they log in with; who belongs to it is decided by the gateway alone.

REVOKE SELECT ON users FROM orbyt_app;
GRANT SELECT (id, email, name, created_at, disabled_at) ON users TO orbyt_app;
REVOKE INSERT, UPDATE, DELETE ON memberships FROM orbyt_app;
