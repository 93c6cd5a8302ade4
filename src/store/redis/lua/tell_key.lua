-- Tells the other nodes what was learnt about a provider's key, and keeps it for those that come later.
--
-- KEYS: the hash of keys. ARGV: the channel, the node, the key, `cooldown`, `exhausted`, `disabled` or `enabled`, and for how long in
-- milliseconds. A field is `<kind> <until>`; of two deadlines the longer one wins.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local channel, node, key, kind, left = unpack(ARGV)
-- What nobody renews is forgotten.
local MONTH = 2592000000
if kind == 'enabled' then
  redis.call('HDEL', KEYS[1], key)
else
  local known = redis.call('HGET', KEYS[1], key)
  local until_known = known and tonumber(string.match(known, ' (%d+)$')) or 0
  local until_told = now + tonumber(left)
  if until_told > until_known then
    redis.call('HSET', KEYS[1], key, kind .. ' ' .. string.format('%.0f', until_told))
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', MONTH))
  end
end
redis.call('PUBLISH', channel, table.concat({ node, kind, left, key }, '\t'))
