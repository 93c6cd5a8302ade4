-- Counts what is used of the limits of a provider's key or group of keys, and tells the other nodes. Returns what is left of requests and
-- tokens.
--
-- KEYS: the account's hash, which holds what was left of each and when (`r`, `r@`, `t`, `t@`).
-- ARGV: requests and tokens a minute (0 for no limit), requests and tokens that are taken, then the channel and the message for the
-- others; without a message nobody is told.

local MINUTE = 60000000
local MOST_DEBT = 10
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local left = {}
for n, name in ipairs({ 'r', 't' }) do
  local limit, taken = tonumber(ARGV[n]), tonumber(ARGV[n + 2])
  left[n] = '0'
  if limit > 0 then
    local level = tonumber(redis.call('HGET', KEYS[1], name) or limit)
    local at = tonumber(redis.call('HGET', KEYS[1], name .. '@') or now)
    level = math.min(level + math.max(now - at, 0) * limit / MINUTE, limit)
    level = math.max(math.min(level - taken, limit), -limit * MOST_DEBT)
    redis.call('HSET', KEYS[1], name, string.format('%.17g', level), name .. '@', string.format('%.0f', math.max(now, at)))
    left[n] = string.format('%.0f', math.max(math.floor(level), 0))
  end
end
-- By then all debt is paid.
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', (MOST_DEBT + 1) * MINUTE / 1000))
if ARGV[6] ~= '' then
  redis.call('PUBLISH', ARGV[5], ARGV[6])
end
return left
