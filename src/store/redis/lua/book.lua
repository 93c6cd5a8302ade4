-- Ends a reservation: what was spent is booked, the rest is free again. Said twice, it is done once. Returns what is then spent and reserved of
-- each account.
--
-- What the ledger has said since may include it: of what the ledger was ahead by then, so much is explained, and is not added again.
--
-- KEYS: the last is no account but the set of the process's settlements that were booked. ARGV: the node under whose name it was reserved,
-- the amount that was, what was spent (with a minus: what is given back), how many milliseconds ago, the settlement's number, the lowest number
-- that the process may still say, for how long the set is remembered (milliseconds), then for each account for how long it is (0: for ever).

-- What is told within this time (milliseconds) may have been told in another order.
local AT_ONCE = 20

local gives_back = string.sub(ARGV[3], 1, 1) == '-'
local me, amount, settled = ARGV[1], read(ARGV[2]), KEYS[#KEYS]
local spent = read(gives_back and string.sub(ARGV[3], 2) or ARGV[3])
local at, number, lowest = ago(ARGV[4]) - AT_ONCE, tonumber(ARGV[5]), tonumber(ARGV[6])

local function is_new()
  local bound = tonumber(redis.call('ZSCORE', settled, 'lowest') or 0)
  if number < bound or redis.call('ZSCORE', settled, ARGV[5]) then
    return false
  end
  if lowest > bound then
    redis.call('ZREMRANGEBYSCORE', settled, '-inf', '(' .. ARGV[6])
    redis.call('ZADD', settled, ARGV[6], 'lowest')
  end
  redis.call('ZADD', settled, ARGV[5], ARGV[5])
  redis.call('PEXPIRE', settled, ARGV[7])
  return true
end

-- The part of it that the ledger has not told of.
local function untold(key)
  local raised = redis.call('HGET', key, 'raised')
  if not raised then
    return spent
  end
  local more, left = spent, {}
  for time, by in string.gmatch(raised, '(%d+):(%d+)') do
    local ahead = read(by)
    if tonumber(time) >= at then
      ahead, more = rest(ahead, more), rest(more, ahead)
    end
    if ahead[1] > 0 or ahead[2] > 0 then
      table.insert(left, time .. ':' .. written(ahead))
    end
  end
  keep(key, 'raised', left)
  return more
end

local new, answer = is_new(), {}
for place = 2, #KEYS - 1 do
  local key = KEYS[place]
  if new then
    local mine = redis.call('HGET', key, 'r:' .. me)
    if mine then
      local left = rest(read(mine), amount)
      if left[1] == 0 and left[2] == 0 then
        redis.call('HDEL', key, 'r:' .. me)
      else
        redis.call('HSET', key, 'r:' .. me, written(left))
      end
    end
    local total = read(redis.call('HGET', key, 'spent') or nil)
    if gives_back then
      total = rest(total, spent)
      returned(key, ago(0), spent)
    else
      total = sum(total, untold(key))
    end
    redis.call('HSET', key, 'spent', written(total))
    local ttl = tonumber(ARGV[place + 6])
    if ttl > 0 then
      redis.call('PEXPIRE', key, ARGV[place + 6])
    end
  end
  table.insert(answer, written(read(redis.call('HGET', key, 'spent') or nil)))
  table.insert(answer, written(reserved_of(key, me)))
end
return answer
