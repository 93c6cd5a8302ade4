-- Keeps an answer, in the place of those that would go first when there are too many. Returns how many there are.
--
-- KEYS: the answer, the set of all by the time until which they are kept. ARGV: the answer, for how many milliseconds, how many there may
-- be.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[2])), KEYS[1])
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[3])
if over > 0 then
  local gone = redis.call('ZPOPMIN', KEYS[2], over)
  for n = 1, #gone, 2 do
    redis.call('DEL', gone[n])
  end
end
return redis.call('ZCARD', KEYS[2])
