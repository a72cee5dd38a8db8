"""The atomic steps of orders, run inside Redis; see ``scripts`` for the ledger's.

An order is the JSON object of ``Order``. ``order-of`` maps a unit to the order that has it.
"""

from eo_tasks.state.scripts import COMMON

# now, order, its JSON, stage, seconds until someone looks at its units, (period, cell)… → cells that the order has now
JOIN = (
    COMMON
    + """
local id, stage, look_at = ARGV[2], ARGV[4], now + tonumber(ARGV[5])
local claimed = {}
for at = 6, #ARGV, 2 do
  local period, cell = ARGV[at], ARGV[at + 1]
  local unit, entry = unit_id(stage, period, cell), read(stage, period, cell)
  local state = entry[1]
  local is_waiting = state == 'enqueued' or (state == 'retrying' and entry[6] <= now)
  local is_open = is_waiting or state == 'absent' or state == 'pending' or state == 'canceled' or DONE[state]
  if is_open and not is_leased(stage, period, cell) then
    local held_by = redis.call('HGET', 'eo-tasks:order-of', unit)
    if held_by and redis.call('HEXISTS', 'eo-tasks:orders', held_by) == 0 then held_by = false end
    if not is_waiting then afresh(stage, period, cell, entry) end
    if not held_by then
      claimed[#claimed + 1] = tonumber(cell)
      held_by = id
      entry[2] = entry[2] + 1
    end
    redis.call('HSET', 'eo-tasks:order-of', unit, held_by)
    entry[5], entry[6], entry[7] = now, 0, 'order ' .. held_by
    move(stage, period, cell, entry, 'ordered', look_at)
  end
end
if #claimed > 0 then
  local order = cjson.decode(ARGV[3])
  order.cells = claimed
  redis.call('HSET', 'eo-tasks:orders', id, cjson.encode(order))
end
return claimed
"""
)

# now, stage, period, cell, owner, when it began, order, its JSON, seconds until someone looks at it → 1 if it was done
REORDER = (
    COMMON
    + """
local _, stage, period, cell, owner, began, id, order, look_s = unpack(ARGV)
if not is_held(stage, period, cell, owner, began) then return 0 end
redis.call('DEL', lease_of(stage, period, cell))
local entry = read(stage, period, cell)
entry[5], entry[6], entry[7] = now, 0, 'order ' .. id
redis.call('HSET', 'eo-tasks:orders', id, order)
redis.call('HSET', 'eo-tasks:order-of', unit_id(stage, period, cell), id)
move(stage, period, cell, entry, 'ordered', now + tonumber(look_s))
return 1
"""
)

# now, order, JSON expected, new JSON or '' to drop it, key of slots, 'hold' or 'free', stage, (new order, its JSON)…
# → 1 if it was as expected; the new orders take its units over
CHANGE = (
    COMMON
    + """
local _, id, expected, changed, slots, slot, stage = unpack(ARGV)
if redis.call('HGET', 'eo-tasks:orders', id) ~= expected then return 0 end
if slot == 'hold' then redis.call('SADD', slots, id) else redis.call('SREM', slots, id) end
if changed ~= '' then
  redis.call('HSET', 'eo-tasks:orders', id, changed)
  return 1
end
redis.call('HDEL', 'eo-tasks:orders', id)
local heirs = {}
for at = 8, #ARGV, 2 do
  redis.call('HSET', 'eo-tasks:orders', ARGV[at], ARGV[at + 1])
  for _, cell in ipairs(cjson.decode(ARGV[at + 1]).cells) do heirs[cell] = ARGV[at] end
end
local order = cjson.decode(expected)
for _, cell in ipairs(order.cells) do
  local unit = unit_id(stage, string.format('%d', order.year), string.format('%d', cell))
  if redis.call('HGET', 'eo-tasks:order-of', unit) == id then
    if heirs[cell] then redis.call('HSET', 'eo-tasks:order-of', unit, heirs[cell])
    else redis.call('HDEL', 'eo-tasks:order-of', unit) end
  end
end
return 1
"""
)

# order, JSON expected, new JSON, key of slots, most slots, key of starts, most starts a minute
# → 'admitted', 'full', 'fast', or 'changed' where the order was not as expected
ADMIT = """
local id, expected, changed, slots, most, starts, most_starts = unpack(ARGV)
if redis.call('HGET', 'eo-tasks:orders', id) ~= expected then return 'changed' end
if redis.call('SCARD', slots) >= tonumber(most) then return 'full' end
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
redis.call('ZREMRANGEBYSCORE', starts, '-inf', now - 60)
if redis.call('ZCARD', starts) >= tonumber(most_starts) then return 'fast' end
redis.call('ZADD', starts, now, id)
redis.call('EXPIRE', starts, 120)
redis.call('SADD', slots, id)
redis.call('HSET', 'eo-tasks:orders', id, changed)
return 'admitted'
"""

# key of a lease, owner, lease in ms → 1 if the owner holds it now; KEEP also takes one that ended, if nobody else has
KEEP = """
local holder = redis.call('GET', ARGV[1])
if holder and holder ~= ARGV[2] then return 0 end
redis.call('SET', ARGV[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

# key of a lease, owner
RELEASE = "if redis.call('GET', ARGV[1]) == ARGV[2] then redis.call('DEL', ARGV[1]) end"
