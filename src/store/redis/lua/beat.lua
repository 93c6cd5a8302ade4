-- A node says that it lives. Returns whether it was known to (1 or 0), and how many nodes do.
--
-- KEYS: the nodes. ARGV: the node, for how long (microseconds), and the name that it had before, if it has taken a new one.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
local known = score and tonumber(score) > now
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if ARGV[3] ~= '' then
  redis.call('ZREM', KEYS[1], ARGV[3])
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
return { known and 1 or 0, redis.call('ZCARD', KEYS[1]) }
