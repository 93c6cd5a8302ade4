-- Keeps an answer, in the place of those that came first when there are too many, or they are too large together: whoever wants an answer
-- kept for long must not push out those of others by that. Returns how many there are, and their size in bytes.
--
-- KEYS: the answer, the set of all by the time until which they are kept, the hash of their sizes, whose field '' is the sum, the set of all
-- by the time at which they came; what versions before have put there is not in it, and goes by its time.
-- ARGV: the answer, for how many milliseconds, how many there may be, and of how many bytes together.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer, all, sizes, order = unpack(KEYS)
local ttl, most, most_bytes = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local AT_ONCE = 1000
if redis.call('EXISTS', all) == 0 then
  redis.call('DEL', sizes)
end
local bytes = tonumber(redis.call('HGET', sizes, '') or 0)

local function forget(name)
  bytes = math.max(bytes - tonumber(redis.call('HGET', sizes, name) or 0), 0)
  redis.call('HDEL', sizes, name)
  redis.call('ZREM', all, name)
  redis.call('ZREM', order, name)
end

repeat
  local over = redis.call('ZRANGEBYSCORE', all, '-inf', string.format('%.0f', now), 'LIMIT', 0, AT_ONCE)
  for _, name in ipairs(over) do
    forget(name)
  end
until #over < AT_ONCE
forget(answer)
local size = #answer + #ARGV[1]
if size <= most_bytes then
  redis.call('SET', answer, ARGV[1], 'PX', ARGV[2])
  redis.call('ZADD', all, string.format('%.0f', now + ttl), answer)
  redis.call('ZADD', order, string.format('%.0f', now), answer)
  redis.call('HSET', sizes, answer, size)
  bytes = bytes + size
end
local count = redis.call('ZCARD', all)
while count > most or (bytes > most_bytes and count > 0) do
  local by = redis.call('ZCARD', order) < count and all or order
  local first = redis.call('ZRANGE', by, 0, 0)[1]
  redis.call('DEL', first)
  forget(first)
  count = count - 1
end
redis.call('HSET', sizes, '', string.format('%.0f', bytes))
for _, index in ipairs({ all, sizes, order }) do
  if redis.call('PTTL', index) < ttl then
    redis.call('PEXPIRE', index, ARGV[2])
  end
end
return { count, bytes }
