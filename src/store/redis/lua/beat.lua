-- A node says that it lives. Returns whether it was known to (1 or 0), and how many nodes do.
--
-- KEYS: the nodes, by names `<node>.<number>`. ARGV: the name, for how long (microseconds), how many other names the node has whose
-- requests still run, these names, and names that it has no more.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ttl, kept = tonumber(ARGV[2]), tonumber(ARGV[3])
local ends = string.format('%.0f', now + ttl)
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
local known = score and tonumber(score) > now
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
for n = 4, #ARGV do
  if n < 4 + kept then
    redis.call('ZADD', KEYS[1], ends, ARGV[n])
  else
    redis.call('ZREM', KEYS[1], ARGV[n])
  end
end
redis.call('ZADD', KEYS[1], ends, ARGV[1])
-- When nobody gives signs of life any more, nothing stays behind.
local rest = math.ceil(ttl / 1000) * 2
if redis.call('PTTL', KEYS[1]) < rest then
  redis.call('PEXPIRE', KEYS[1], rest)
end
local seen, nodes = {}, 0
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local node = string.match(name, '^[^.]+') or name
  if not seen[node] then
    seen[node], nodes = true, nodes + 1
  end
end
return { known and 1 or 0, nodes }
