-- Tells the other nodes what was learnt about a provider's key, and keeps it for those that come later.
--
-- KEYS: the hash of keys. ARGV: the channel, the node, the key, `cooldown`, `exhausted`, `disabled` or `enabled`, for how long in
-- milliseconds, and what stands before the key in the field that says when it was enabled. A field is `<kind> <until>`; of two deadlines
-- the longer one wins. A refusal and its end hold equally long after they were learnt, so there the longer one is the later.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local channel, node, key, kind, left, prefix = unpack(ARGV)
local until_told = now + tonumber(left)
-- What nobody renews is forgotten.
local MONTH = 2592000000

local function known(field)
  local kind, ends = string.match(redis.call('HGET', KEYS[1], field) or '', '^(%a+) (%d+)$')
  return kind, ends and tonumber(ends) or 0
end

local known_kind, until_known = known(key)
local field = key
if kind == 'enabled' then
  if known_kind == 'disabled' then
    if until_known > until_told then
      return
    end
    redis.call('HDEL', KEYS[1], key)
  end
  field = prefix .. key
  local _, until_enabled = known(field)
  until_known = until_enabled
elseif kind == 'disabled' then
  local _, until_enabled = known(prefix .. key)
  if until_enabled >= until_told then
    return
  end
end
if until_told > until_known then
  redis.call('HSET', KEYS[1], field, kind .. ' ' .. string.format('%.0f', until_told))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', MONTH))
end
redis.call('PUBLISH', channel, table.concat({ node, kind, left, key }, '\t'))
