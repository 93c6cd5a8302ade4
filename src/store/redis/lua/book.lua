-- Ends a reservation: what was spent is booked, the rest is free again. Said twice, it is done once. Returns what is then spent and reserved of
-- each account.
--
-- KEYS: the last is no account but the settlement itself. ARGV: the node under whose name it was reserved, the amount that was, what was
-- spent, for how long a settlement is remembered (milliseconds), then for each account for how long it is (0: for ever).

local me, amount, spent = ARGV[1], read(ARGV[2]), read(ARGV[3])
if not redis.call('SET', KEYS[#KEYS], '1', 'NX', 'PX', ARGV[4]) then
  return {}
end
local answer = {}
for place = 2, #KEYS - 1 do
  local key = KEYS[place]
  local mine = redis.call('HGET', key, 'r:' .. me)
  if mine then
    local left = rest(read(mine), amount)
    if left[1] == 0 and left[2] == 0 then
      redis.call('HDEL', key, 'r:' .. me)
    else
      redis.call('HSET', key, 'r:' .. me, written(left))
    end
  end
  local total = written(sum(read(redis.call('HGET', key, 'spent') or nil), spent))
  redis.call('HSET', key, 'spent', total)
  table.insert(answer, total)
  table.insert(answer, written(reserved_of(key, me)))
  local ttl = tonumber(ARGV[place + 3])
  if ttl > 0 then
    redis.call('PEXPIRE', key, ARGV[place + 3])
  end
end
return answer
