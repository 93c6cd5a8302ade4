-- Reserves an amount of every account, or nothing of any.
--
-- ARGV, from the third on: for each account its limit, and for how long it is remembered in milliseconds (0: for ever).
-- Returns whether it did ('1') or the place of the first account that has not enough left ('0' and its number, from 0), then for each
-- account what is spent and what is reserved of it, this request included.

local me, amount = ARGV[1], read(ARGV[2])
local short, balances = nil, {}
for place = 2, #KEYS do
  local spent, reserved = read(redis.call('HGET', KEYS[place], 'spent') or nil), reserved_of(KEYS[place], me)
  balances[place] = { spent, reserved }
  if not short and less(read(ARGV[2 * place - 1]), sum(sum(spent, reserved), amount)) then
    short = place - 2
  end
end
local answer = { short and '0' or '1', tostring(short or 0) }
for place = 2, #KEYS do
  local spent, reserved = balances[place][1], balances[place][2]
  if not short then
    reserved = sum(reserved, amount)
    local mine = read(redis.call('HGET', KEYS[place], 'r:' .. me) or nil)
    redis.call('HSET', KEYS[place], 'r:' .. me, written(sum(mine, amount)))
    local ttl = tonumber(ARGV[2 * place])
    if ttl > 0 then
      redis.call('PEXPIRE', KEYS[place], ARGV[2 * place])
    end
  end
  table.insert(answer, written(spent))
  table.insert(answer, written(reserved))
end
return answer
