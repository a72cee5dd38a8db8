"""The ledger's atomic steps, run inside Redis.

An entry is the JSON array ``[state, attempts, deaths, since, started_at, due, worker, error]``, with the error's
fingerprint as a ninth element where a unit waits for a person. Every transition keeps, in the same step, the counts,
the index of units in flight by the time at which someone should look at them (``active``), the index of units that wait
for a person by fingerprint (``stuck``), and the list of hashes that an export should write (``changed``).

Every script takes the time as its first argument. A unit is given as stage, period and cell.
"""

COMMON = """
local now = tonumber(ARGV[1])
local IN_FLIGHT = {enqueued = true, ordered = true, started = true, retrying = true}
local STUCK = {failed = true, quarantined = true}
local DONE = {completed = true, skipped = true}

local function key(kind, stage, period) return 'eo-tasks:' .. kind .. ':' .. stage .. ':' .. period end
local function unit_id(stage, period, cell) return stage .. '_' .. cell .. '_' .. period end
local function lease_of(stage, period, cell) return 'eo-tasks:lease:' .. unit_id(stage, period, cell) end

local function read(stage, period, cell)
  local text = redis.call('HGET', key('units', stage, period), cell)
  if text then return cjson.decode(text) end
  return {'absent', 0, 0, 0, 0, 0, '', ''}
end

local function unstick(entry, unit)
  local print = entry[9]
  if not print then return end
  entry[9] = nil
  redis.call('SREM', 'eo-tasks:stuck:' .. print, unit)
  if redis.call('EXISTS', 'eo-tasks:stuck:' .. print) == 0 then redis.call('HDEL', 'eo-tasks:errors', print) end
end

local function move(stage, period, cell, entry, state, look_at)
  local old, unit, counts = entry[1], unit_id(stage, period, cell), key('counts', stage, period)
  entry[1], entry[4] = state, now
  if old ~= state then
    if old == 'absent' then redis.call('SADD', 'eo-tasks:periods', stage .. ':' .. period)
    else redis.call('HINCRBY', counts, old, -1) end
    if state ~= 'absent' then redis.call('HINCRBY', counts, state, 1) end
  end
  if IN_FLIGHT[state] then redis.call('ZADD', 'eo-tasks:active:' .. stage, look_at, unit)
  elseif IN_FLIGHT[old] then redis.call('ZREM', 'eo-tasks:active:' .. stage, unit) end
  redis.call('SADD', 'eo-tasks:changed', stage .. ':' .. period)
  if state == 'absent' then redis.call('HDEL', key('units', stage, period), cell)
  else redis.call('HSET', key('units', stage, period), cell, cjson.encode(entry)) end
end

local function stick(stage, period, cell, entry, state, print, about)
  unstick(entry, unit_id(stage, period, cell))
  entry[9] = print
  redis.call('SADD', 'eo-tasks:stuck:' .. print, unit_id(stage, period, cell))
  redis.call('HSETNX', 'eo-tasks:errors', print, about)
  move(stage, period, cell, entry, state)
end

local function afresh(stage, period, cell, entry)
  unstick(entry, unit_id(stage, period, cell))
  entry[2], entry[3], entry[5], entry[6], entry[7], entry[8] = 0, 0, 0, 0, '', ''
end

-- Whether the unit is this owner's: it holds the lease; or no one does, as after an outage, and no one began it since.
local function is_held(stage, period, cell, owner, began)
  local holder = redis.call('GET', lease_of(stage, period, cell))
  if holder then return holder == owner end
  local entry = read(stage, period, cell)
  return began ~= '' and entry[1] == 'started' and tostring(entry[5]) == began
end

local function is_leased(stage, period, cell) return redis.call('EXISTS', lease_of(stage, period, cell)) == 1 end

-- One more worker has died with the unit; true if that is one too many and the unit is set aside.
local function is_set_aside(stage, period, cell, entry, max_deaths, print, about)
  if entry[3] < tonumber(max_deaths) then return false end
  entry[6] = 0
  entry[8] = 'WorkerDeath: ended its worker ' .. entry[3] .. ' times, last on ' .. entry[7]
  stick(stage, period, cell, entry, 'quarantined', print, about)
  return true
end
"""

# now, stage, run, again?, forced?, (period, cell)… → number of units put on the run's list of ready units
READY = (
    COMMON
    + """
local stage, run, again, forced = ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5] == '1'
local number = 0
for at = 6, #ARGV, 2 do
  local period, cell = ARGV[at], ARGV[at + 1]
  local entry = read(stage, period, cell)
  local state = entry[1]
  local is_open = state == 'absent' or state == 'canceled' or DONE[state] or (state == 'pending' and again)
  if not is_open and state == 'empty' then is_open = forced or stage ~= 'download' end
  if not is_open and STUCK[state] then is_open = forced end
  if is_open and not is_leased(stage, period, cell) then
    afresh(stage, period, cell, entry)
    move(stage, period, cell, entry, 'pending')
    redis.call('RPUSH', 'eo-tasks:ready:' .. run .. ':' .. stage, cell .. ':' .. period)
    number = number + 1
  end
end
return number
"""
)

# now, stage, run, most, max in flight, grace → 'cell:period' of each unit that is now enqueued
TAKE = (
    COMMON
    + """
local stage, run, most, limit, grace = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local room = math.min(most, limit - redis.call('ZCARD', 'eo-tasks:active:' .. stage))
local taken = {}
for _ = 1, room + 1000 do
  if #taken >= room then break end
  local item = redis.call('LPOP', 'eo-tasks:ready:' .. run .. ':' .. stage)
  if not item then break end
  local cell, period = string.match(item, '^(%d+):(.+)$')
  local entry = read(stage, period, cell)
  if entry[1] == 'pending' and not is_leased(stage, period, cell) then
    move(stage, period, cell, entry, 'enqueued', now + grace)
    taken[#taken + 1] = item
  end
end
return taken
"""
)

# now, stage, grace, max deaths, fingerprint and about of a death, (period, cell)… → 'cell:period' of each unit to send
RESEND = (
    COMMON
    + """
local stage, grace, max_deaths, print, about = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
local sent = {}
for at = 7, #ARGV, 2 do
  local period, cell = ARGV[at], ARGV[at + 1]
  local entry = read(stage, period, cell)
  local state = entry[1]
  local is_lost = IN_FLIGHT[state] and (state ~= 'retrying' or entry[6] <= now)
  if is_lost and not is_leased(stage, period, cell) then
    if state == 'started' then entry[3] = entry[3] + 1 end
    if state ~= 'started' or not is_set_aside(stage, period, cell, entry, max_deaths, print, about) then
      entry[6] = 0
      move(stage, period, cell, entry, 'enqueued', now + grace)
      sent[#sent + 1] = cell .. ':' .. period
    end
  end
end
return sent
"""
)

# now, stage, period, cell, owner, worker, lease in s, max deaths, fingerprint and about of a death, mode: '',
# 'fresh' for a unit whose message waits, or the order that has it
# → how many workers the unit took down and when it was begun, if it is now leased and started; else nothing
BEGIN = (
    COMMON
    + """
local _, stage, period, cell, owner, worker, lease_s, max_deaths, print, about, mode = unpack(ARGV)
local lease = lease_of(stage, period, cell)
local held = redis.call('GET', lease)
local entry = read(stage, period, cell)
if held then return held == owner and {entry[3], tostring(entry[5])} end
local state = entry[1]
if mode ~= '' and mode ~= 'fresh' then
  local unit = unit_id(stage, period, cell)
  if state ~= 'ordered' or redis.call('HGET', 'eo-tasks:order-of', unit) ~= mode then return false end
  entry[2] = entry[2] - 1 -- it was counted when it was ordered
elseif state ~= 'enqueued' and state ~= 'started' and (state ~= 'retrying' or entry[6] > now) then return false
elseif mode == 'fresh' and (state ~= 'enqueued' or entry[3] > 0) then return false end
if state == 'started' then
  entry[3] = entry[3] + 1
  if is_set_aside(stage, period, cell, entry, max_deaths, print, about) then return false end
end
entry[2], entry[5], entry[6], entry[7] = entry[2] + 1, now, 0, worker
move(stage, period, cell, entry, 'started', now + tonumber(lease_s))
redis.call('SET', lease, owner, 'PX', math.floor(lease_s * 1000))
return {entry[3], tostring(entry[5])}
"""
)

# now, stage, period, cell, owner, when it began, lease in s → 1 if the lease is held
RENEW = (
    COMMON
    + """
local _, stage, period, cell, owner, began, lease_s = unpack(ARGV)
if not is_held(stage, period, cell, owner, began) then return 0 end
redis.call('SET', lease_of(stage, period, cell), owner, 'PX', math.floor(lease_s * 1000))
return 1
"""
)

# now, stage, period, cell, owner, when it began, state, error, fingerprint, about, due,
# max attempts or -1 for one that does not count, followers as JSON
# → the state the unit is in now, and the period of each pair that is enqueued now; nothing if the lease was lost
CLOSE = (
    COMMON
    + """
local _, stage, period, cell, owner, began, state, error, print, about, due, max_attempts, followers = unpack(ARGV)
if not is_held(stage, period, cell, owner, began) then return false end
redis.call('DEL', lease_of(stage, period, cell))
local entry = read(stage, period, cell)
entry[6], entry[8] = 0, error
if tonumber(max_attempts) < 0 then entry[2] = math.max(entry[2] - 1, 0) -- unblamed
elseif state == 'retrying' and entry[2] >= tonumber(max_attempts) then state = 'failed' end
if state ~= 'retrying' then redis.call('HDEL', 'eo-tasks:order-of', unit_id(stage, period, cell)) end
if STUCK[state] then stick(stage, period, cell, entry, state, print, about)
else
  unstick(entry, unit_id(stage, period, cell))
  if state == 'retrying' then entry[6] = tonumber(due) end
  move(stage, period, cell, entry, state, tonumber(due))
end
local answer = {state}
if followers ~= '' then
  local follow = cjson.decode(followers)
  for _, unit in ipairs(follow['then']) do
    local next_entry = read(unit[1], unit[2], cell)
    if not IN_FLIGHT[next_entry[1]] and not STUCK[next_entry[1]] then
      afresh(unit[1], unit[2], cell, next_entry)
      move(unit[1], unit[2], cell, next_entry, 'enqueued', now + follow['grace'])
    end
  end
  for _, pair in ipairs(follow['pairs']) do
    local run, years, other_year = pair[1], pair[2], pair[3]
    if DONE[read(stage, other_year, cell)[1]] then
      local btc = read('btc', years, cell)
      if btc[1] ~= 'pending' and not IN_FLIGHT[btc[1]] and not STUCK[btc[1]] then
        local list, active = 'eo-tasks:ready:' .. run .. ':btc', 'eo-tasks:active:btc'
        afresh('btc', years, cell, btc)
        if redis.call('EXISTS', list) == 0 and redis.call('ZCARD', active) < follow['room'] then
          move('btc', years, cell, btc, 'enqueued', now + follow['grace'])
          answer[#answer + 1] = years
        else
          move('btc', years, cell, btc, 'pending')
          redis.call('RPUSH', list, cell .. ':' .. years)
        end
      end
    end
  end
  for _, unit in ipairs(follow['empty']) do
    local other = read(unit[1], unit[2], cell)
    if other[1] == 'absent' or other[1] == 'pending' or other[1] == 'canceled' then
      move(unit[1], unit[2], cell, other, 'empty')
    end
  end
end
return answer
"""
)

# now, stage, 'pending' or 'canceled', also ordered ones?, (period, cell)… → number of units that will not run now
WITHDRAW = (
    COMMON
    + """
local stage, is_cancel, is_ordered = ARGV[2], ARGV[3] == 'canceled', ARGV[4] == '1'
local number = 0
for at = 5, #ARGV, 2 do
  local period, cell = ARGV[at], ARGV[at + 1]
  local entry = read(stage, period, cell)
  local state = entry[1]
  local is_waiting = state == 'pending' or state == 'enqueued' or state == 'retrying'
  if is_waiting or (is_cancel and state == 'started') or ((is_cancel or is_ordered) and state == 'ordered') then
    redis.call('DEL', lease_of(stage, period, cell))
    redis.call('HDEL', 'eo-tasks:order-of', unit_id(stage, period, cell))
    move(stage, period, cell, entry, is_cancel and 'canceled' or 'absent')
    number = number + 1
  end
end
return number
"""
)

# now, stage, (period, cell)… → number of entries dropped
FORGET = (
    COMMON
    + """
local stage, number = ARGV[2], 0
for at = 3, #ARGV, 2 do
  local period, cell = ARGV[at], ARGV[at + 1]
  local entry = read(stage, period, cell)
  if entry[1] ~= 'absent' and not IN_FLIGHT[entry[1]] then
    unstick(entry, unit_id(stage, period, cell))
    move(stage, period, cell, entry, 'absent')
    number = number + 1
  end
end
return number
"""
)

# now, stage, period, 'skipped' or 'empty', cell… → number of units that were not known to be so
ADOPT = (
    COMMON
    + """
local stage, period, state = ARGV[2], ARGV[3], ARGV[4]
local number = 0
for at = 5, #ARGV do
  local cell = ARGV[at]
  local entry = read(stage, period, cell)
  local old = entry[1]
  local is_open = old == 'absent' or old == 'pending' or old == 'canceled'
  if state == 'skipped' then is_open = is_open or old == 'retrying' or old == 'empty' or STUCK[old] end
  if is_open then
    afresh(stage, period, cell, entry)
    move(stage, period, cell, entry, state)
    number = number + 1
  end
end
return number
"""
)

# now, stage, period, (cell, entry, fingerprint, about)… → number of units that had no entry and have this one now
RESTORE = (
    COMMON
    + """
local stage, period = ARGV[2], ARGV[3]
local number = 0
for at = 4, #ARGV, 4 do
  local cell, print = ARGV[at], ARGV[at + 2]
  local entry = cjson.decode(ARGV[at + 1])
  if redis.call('HSETNX', key('units', stage, period), cell, ARGV[at + 1]) == 1 then
    redis.call('SADD', 'eo-tasks:periods', stage .. ':' .. period)
    redis.call('HINCRBY', key('counts', stage, period), entry[1], 1)
    if print ~= '' then
      redis.call('SADD', 'eo-tasks:stuck:' .. print, unit_id(stage, period, cell))
      redis.call('HSETNX', 'eo-tasks:errors', print, ARGV[at + 3])
    end
    number = number + 1
  end
end
return number
"""
)

# key, field, value expected, new value → 1 if the value was the expected one
EXCHANGE = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""
