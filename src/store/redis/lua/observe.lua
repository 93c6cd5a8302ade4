-- Takes note of what was spent of an account according to the ledger: less than that it cannot be. Returns what is spent and what reserved.
--
-- By how much the ledger was ahead is remembered: nodes that could not say what they have spent will say it later, and it counts already.
--
-- ARGV: nothing, that amount, how many milliseconds ago it was, for how long the account is remembered in milliseconds (0: for ever).

-- So many times are told apart.
local MOST = 32

local told, known = read(ARGV[2]), read(redis.call('HGET', KEYS[2], 'spent') or nil)
if redis.call('HEXISTS', KEYS[2], 'returned') == 1 then
  told = rest(told, returned(KEYS[2], ago(ARGV[3])))
end
if less(known, told) then
  local raised = {}
  for time, by in string.gmatch(redis.call('HGET', KEYS[2], 'raised') or '', '(%d+):(%d+)') do
    table.insert(raised, { time, by })
  end
  table.insert(raised, { string.format('%.0f', ago(ARGV[3])), written(rest(told, known)) })
  if #raised > MOST then
    local first = table.remove(raised, 1)
    raised[1][2] = written(sum(read(first[2]), read(raised[1][2])))
  end
  for place, one in ipairs(raised) do
    raised[place] = one[1] .. ':' .. one[2]
  end
  redis.call('HSET', KEYS[2], 'spent', written(told), 'raised', table.concat(raised, ','))
  known = told
  if tonumber(ARGV[4]) > 0 then
    redis.call('PEXPIRE', KEYS[2], ARGV[4])
  end
end
return { written(known), written(reserved_of(KEYS[2], '')) }
