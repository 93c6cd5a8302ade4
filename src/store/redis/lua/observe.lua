-- Takes note of what was spent of an account according to the ledger: less than that it cannot be. Returns what is spent and what reserved.
--
-- ARGV: nothing, that amount, for how long the account is remembered in milliseconds (0: for ever).

local told, known = read(ARGV[2]), read(redis.call('HGET', KEYS[2], 'spent') or nil)
if less(known, told) then
  redis.call('HSET', KEYS[2], 'spent', written(told))
  known = told
  if tonumber(ARGV[3]) > 0 then
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
  end
end
return { written(known), written(reserved_of(KEYS[2], '')) }
