-- What is known about keys: for each its field, kind, and for how many milliseconds it still holds. What is over is forgotten.
--
-- KEYS: the hash of keys.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local flat, known = redis.call('HGETALL', KEYS[1]), {}
for n = 1, #flat, 2 do
  local kind, ends = string.match(flat[n + 1], '^(%a+) (%d+)$')
  local left = ends and tonumber(ends) - now or 0
  if left > 0 then
    table.insert(known, { flat[n], kind, string.format('%.0f', left) })
  else
    redis.call('HDEL', KEYS[1], flat[n])
  end
end
return known
