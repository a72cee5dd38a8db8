"""The ledger's atomic steps, run inside Redis.

An entry is the JSON array ``[state, attempts, deaths, since, started_at, due, worker, error]``; every script takes
the keys of the units' hash, of the counts' hash, and of the lease.
"""

_COMMON = """
local units, counts, lease = KEYS[1], KEYS[2], KEYS[3]
local function read(field)
  local text = redis.call('HGET', units, field)
  if text then return cjson.decode(text) end
  return {'pending', 0, 0, 0, 0, 0, '', ''}
end
local function write(field, entry, state, now)
  local old = entry[1]
  entry[1], entry[4] = state, tonumber(now)
  if old ~= state then
    if old ~= 'pending' then redis.call('HINCRBY', counts, old, -1) end
    redis.call('HINCRBY', counts, state, 1)
  end
  redis.call('HSET', units, field, cjson.encode(entry))
end
"""

# field, now, is_lost → 1 if the unit is now enqueued
ENQUEUE = (
    _COMMON
    + """
local field, now, is_lost = ARGV[1], ARGV[2], ARGV[3] == '1'
local entry = read(field)
local state = entry[1]
if state == 'failed' or state == 'quarantined' or state == 'canceled' then return 0 end
if state == 'retrying' and entry[6] > tonumber(now) then return 0 end
if (state == 'enqueued' or state == 'started') and not is_lost then return 0 end
if redis.call('EXISTS', lease) == 1 then return 0 end
if state == 'completed' or state == 'skipped' then entry[2], entry[3] = 0, 0 end
if state == 'started' then entry[3] = entry[3] + 1 end
write(field, entry, 'enqueued', now)
return 1
"""
)

# field, now, owner, worker, lease in ms, max deaths, only fresh → 1 if the unit is now leased and started
BEGIN = (
    _COMMON
    + """
local field, now, owner, worker, lease_ms, max_deaths, only_fresh = unpack(ARGV)
local entry = read(field)
local state = entry[1]
if redis.call('EXISTS', lease) == 1 then return 0 end
if state ~= 'pending' and state ~= 'enqueued' and state ~= 'started' and state ~= 'retrying' then return 0 end
if only_fresh == '1' and (state ~= 'enqueued' or entry[3] > 0) then return 0 end
if state == 'started' then entry[3] = entry[3] + 1 end
if entry[3] >= tonumber(max_deaths) then
  entry[8] = 'WorkerDeath: ended its worker ' .. entry[3] .. ' times, last on ' .. entry[7]
  write(field, entry, 'quarantined', now)
  return 0
end
entry[2], entry[5], entry[6], entry[7] = entry[2] + 1, tonumber(now), 0, worker
write(field, entry, 'started', now)
redis.call('SET', lease, owner, 'PX', lease_ms)
return 1
"""
)

# owner, lease in ms → 1 if the lease is still held
RENEW = """
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[3], ARGV[2])
"""

# field, now, owner, state, error, due → 1 if the lease was held until now
CLOSE = (
    _COMMON
    + """
local field, now, owner, state, error, due = unpack(ARGV)
if redis.call('GET', lease) ~= owner then return 0 end
redis.call('DEL', lease)
local entry = read(field)
entry[6], entry[8] = tonumber(due), error
write(field, entry, state, now)
return 1
"""
)

# field → 1 if the unit waited for a person and is forgotten
RESET = (
    _COMMON
    + """
local entry = read(ARGV[1])
local state = entry[1]
if state ~= 'failed' and state ~= 'quarantined' and state ~= 'canceled' then return 0 end
redis.call('HDEL', units, ARGV[1])
redis.call('HINCRBY', counts, state, -1)
return 1
"""
)
