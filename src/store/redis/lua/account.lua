-- What reserve.lua, book.lua and observe.lua have in common; it is put before each of them.
--
-- An account is one hash:
--   spent       what was settled
--   r:<node>    what requests at a node have reserved
--   raised      by how much the ledger was ahead of what was settled, and when: <milliseconds>:<amount>, with commas
--   returned    what was given back a short while ago, which the ledger may not know of yet, in the same form
-- Amounts are whole pico-dollars, in decimal digits. They do not fit into Lua's numbers, so each is reckoned with as two: thousandths of a
-- dollar, and what is left.
--
-- KEYS: the nodes, then the accounts. ARGV: the node that asks, an amount, then what each script says.

local BASE = 1000000000

local function read(text)
  if not text then
    return { 0, 0 }
  end
  local high = string.sub(text, 1, -10)
  return { high == '' and 0 or tonumber(high), tonumber(string.sub(text, -9)) }
end

local function written(amount)
  if amount[1] == 0 then
    return string.format('%.0f', amount[2])
  end
  return string.format('%.0f%09.0f', amount[1], amount[2])
end

local function less(a, b)
  if a[1] ~= b[1] then
    return a[1] < b[1]
  end
  return a[2] < b[2]
end

local function sum(a, b)
  local low = a[2] + b[2]
  if low >= BASE then
    return { a[1] + b[1] + 1, low - BASE }
  end
  return { a[1] + b[1], low }
end

-- Never below nothing.
local function rest(a, b)
  if less(a, b) then
    return { 0, 0 }
  end
  if a[2] < b[2] then
    return { a[1] - b[1] - 1, a[2] + BASE - b[2] }
  end
  return { a[1] - b[1], a[2] - b[2] }
end

-- After so long the ledger knows what was given back, in milliseconds.
local LEDGER_KNOWS = 60000

-- So many milliseconds ago, in milliseconds.
local function ago(age)
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(age)
end

-- What is reserved of an account at all nodes; that of nodes that are gone is free again.
local function reserved_of(key, me)
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local total, flat = { 0, 0 }, redis.call('HGETALL', key)
  for n = 1, #flat, 2 do
    if string.sub(flat[n], 1, 2) == 'r:' then
      local node = string.sub(flat[n], 3)
      local score = node ~= me and redis.call('ZSCORE', KEYS[1], node)
      if node == me or (score and tonumber(score) > now) then
        total = sum(total, read(flat[n + 1]))
      else
        redis.call('HDEL', key, flat[n])
      end
    end
  end
  return total
end

-- Keeps a list of times and amounts of an account.
local function keep(key, name, list)
  if #list == 0 then
    redis.call('HDEL', key, name)
  else
    redis.call('HSET', key, name, table.concat(list, ','))
  end
end

-- What was given back of an account that the ledger did not know of so long ago, and the list of it, for which it adds `more`.
local function returned(key, at, more)
  local total, left = { 0, 0 }, {}
  for time, amount in string.gmatch(redis.call('HGET', key, 'returned') or '', '(%d+):(%d+)') do
    if tonumber(time) + LEDGER_KNOWS > at then
      total = sum(total, read(amount))
      table.insert(left, time .. ':' .. amount)
    end
  end
  if more then
    -- One a second, so that they stay few.
    local second = string.format('%.0f', math.floor(ago(0) / 1000) * 1000 + 999)
    local last, amount = string.match(left[#left] or '', '(%d+):(%d+)')
    if last == second then
      left[#left] = second .. ':' .. written(sum(read(amount), more))
    else
      table.insert(left, second .. ':' .. written(more))
    end
  end
  keep(key, 'returned', left)
  return total
end
