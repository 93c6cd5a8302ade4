-- What acquire.lua and settle.lua have in common; it is put before either of them.
--
-- A subject (a gateway key, a user, a model) is one hash:
--   <bucket>, <bucket>@   what was left in a bucket, and when (microseconds): `rm` are requests a minute, `td` tokens a day, and so on
--   n:<node>, t:<node>    requests in flight at a node, and the tokens that they have reserved
-- Nodes that live stand in a sorted set, by the time until which they do. What a node that is gone has reserved comes back when its
-- subject is next looked at.
--
-- KEYS: the nodes, then the subjects.
-- ARGV: the node that asks, its clock or '' for that of Redis, tokens, tokens used, then for each subject how many limits it has, and
-- for each of them its bucket (`c` is concurrency), amount and period in microseconds.

local time = redis.call('TIME')
local redis_now = time[1] * 1000000 + time[2]
local now = tonumber(ARGV[2]) or redis_now
local me = ARGV[1]
-- A bucket in debt refuses even what is estimated at nothing.
local tokens = math.max(tonumber(ARGV[3]), 1)
local used = tonumber(ARGV[4])
-- For rounding: far less than a request or token.
local NEARLY = 1e-9
-- However long a request runs, its subject is remembered for so long, in milliseconds.
local LONGEST_REQUEST = 3600000

local function exact(number)
  return string.format('%.17g', number)
end

local function lives(node)
  local score = redis.call('ZSCORE', KEYS[1], node)
  return score and tonumber(score) > redis_now
end

local function is_tokens(limit)
  return string.sub(limit.bucket, 1, 1) == 't'
end

-- The limits of all subjects, in the order of the keys.
local function limits_of_all()
  local at, all = 5, {}
  for place = 2, #KEYS do
    local limits = {}
    for n = 1, tonumber(ARGV[at]) do
      local first = at + 3 * n - 2
      limits[n] = { bucket = ARGV[first], amount = tonumber(ARGV[first + 1]), period = tonumber(ARGV[first + 2]) }
    end
    all[place - 1] = limits
    at = at + 1 + 3 * #limits
  end
  return all
end

-- A subject as it is now: buckets filled up to now, the leases of nodes that are gone given back.
local function open(key, limits)
  local hash, flat = {}, redis.call('HGETALL', key)
  for n = 1, #flat, 2 do
    hash[flat[n]] = flat[n + 1]
  end
  local subject = { key = key, limits = limits, in_flight = 0, mine = tonumber(hash['n:' .. me]) or 0, gone = {} }
  subject.reserved = tonumber(hash['t:' .. me]) or 0
  local back = 0
  for field, count in pairs(hash) do
    if string.sub(field, 1, 2) == 'n:' then
      local node = string.sub(field, 3)
      if node == me or lives(node) then
        subject.in_flight = subject.in_flight + tonumber(count)
      else
        back = back + (tonumber(hash['t:' .. node]) or 0)
        table.insert(subject.gone, field)
        table.insert(subject.gone, 't:' .. node)
      end
    end
  end
  for _, limit in ipairs(limits) do
    if limit.bucket == 'c' then
      limit.left = limit.amount - subject.in_flight
    else
      local left, at = tonumber(hash[limit.bucket]), tonumber(hash[limit.bucket .. '@'])
      if left and at then
        -- Whoever took the time before another came first comes with an earlier time.
        limit.at = math.max(at, now)
        left = left + (limit.at - at) * limit.amount / limit.period
        if is_tokens(limit) then
          left = left + back
        end
        limit.left = math.min(left, limit.amount)
      else
        limit.left, limit.at = limit.amount, now
      end
    end
  end
  return subject
end

-- Writes a subject down. It is forgotten when all its buckets are full and nothing is in flight.
local function close(subject)
  if #subject.gone > 0 then
    redis.call('HDEL', subject.key, unpack(subject.gone))
  end
  local fields, full_in = {}, 0
  for _, limit in ipairs(subject.limits) do
    if limit.bucket ~= 'c' then
      table.insert(fields, limit.bucket)
      table.insert(fields, exact(limit.left))
      table.insert(fields, limit.bucket .. '@')
      table.insert(fields, exact(limit.at))
      full_in = math.max(full_in, (limit.amount - limit.left) * limit.period / limit.amount)
    end
  end
  if subject.mine > 0 then
    for _, value in ipairs({ 'n:' .. me, exact(subject.mine), 't:' .. me, exact(subject.reserved) }) do
      table.insert(fields, value)
    end
  else
    redis.call('HDEL', subject.key, 'n:' .. me, 't:' .. me)
  end
  if #fields > 0 then
    redis.call('HSET', subject.key, unpack(fields))
  end
  local ttl = math.ceil(full_in / 1000) + 1000
  if subject.in_flight > 0 then
    ttl = math.max(ttl, LONGEST_REQUEST)
  end
  redis.call('PEXPIRE', subject.key, string.format('%.0f', ttl))
end
