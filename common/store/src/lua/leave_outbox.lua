-- Removes an ended job from the outbox, since its event is published, and counts its end in the
-- app's history and in the usage of its day, key and app: once, since an entry is removed once.
-- KEYS 1 outbox, 2 job, 3 history
-- ARGV 1 job id, 2 number of minutes in the ring, 3 start of the keys of days' usage, 4 days for
--      which a day's usage is kept
-- Returns 1, or 0: it was removed before
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
local names = { 'state', 'created_ms', 'started_ms', 'finished_ms', 'timings', 'decision', 'hint', 'owner', 'pictures', 'gpu_ms' }
local job = redis.call('HMGET', KEYS[2], unpack(names))
local state, finished_ms = job[1], number(job[4])
if not TERMINAL[state] or finished_ms == 0 then return 1 end

local function parsed(json)
  local readable, value = pcall(cjson.decode, json or '')
  return readable and type(value) == 'table' and value or {}
end

local timings, decision = parsed(job[5]), parsed(job[6])
local minute = math.floor(finished_ms / 60000)
local slot = minute % tonumber(ARGV[2])
local counts = parsed(redis.call('HGET', KEYS[3], slot))
if counts.minute ~= minute then counts = { minute = minute } end
local function add(name, value) counts[name] = (counts[name] or 0) + value end

add(state, 1)
local started_ms = tonumber(job[3])
if started_ms then
  add('started', 1)
  add('wait_ms', math.max(0, started_ms - number(job[2])))
end
if state == 'succeeded' then
  add('run_ms', number(timings.run_ms))
  -- A job without a hint needs no model in particular.
  if job[7] and timings.warm ~= nil then
    add(timings.warm and 'warm' or 'cold', 1)
    add('load_ms', number(timings.load_ms))
    if timings.warm and number(decision.held_ms) > 0 then add('swaps_avoided', 1) end
  end
end
redis.call('HSET', KEYS[3], slot, cjson.encode(counts))

local app = app_and_id(KEYS[2])
local usage_key = ARGV[3] .. math.floor(finished_ms / 86400000)
local function use(name, value)
  if value > 0 then redis.call('HINCRBY', usage_key, (job[8] or '') .. ' ' .. app .. ' ' .. name, value) end
end
use(state, 1)
use('pictures', number(job[9]))
if timings.run_ms then
  use('gpu_ms', number(timings.load_ms) + number(timings.run_ms))
  use('load_ms', number(timings.load_ms))
else
  -- Cancelled while it ran.
  use('gpu_ms', number(job[10]))
end
if redis.call('TTL', usage_key) < 0 then redis.call('EXPIRE', usage_key, ARGV[4] * 86400) end
return 1
