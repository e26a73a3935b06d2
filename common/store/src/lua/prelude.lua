-- In front of every script: the clock, the state table, logs, and how changes are told.

-- Redis' own clock, Unix ms.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local TERMINAL = { succeeded = true, failed = true, cancelled = true, expired = true }

-- Seconds for which a copy of an ended job's message may still arrive: beyond the longest retry tier (1 h), any consumer_timeout
-- and a backlog. A flow's step may be submitted again as long as its flow is under way.
local COPIES_S, STEP_COPIES_S = 24 * 3600, 7 * 24 * 3600

-- A field's number; 0 without one.
local function number(text) return tonumber(text) or 0 end

-- Whether a job can be sent or started now. Returns nil if so, else the reason as a reply:
-- {'missing'} | {'gone'}: it ended, and its record was kept long enough | {'terminal', state} | {'leased', ms left}
-- | {'lost'}: its runner is, see mark_lost.lua | {'spent'}: it had all its attempts, see quarantine.lua
-- | {'parked', ms left}: its next attempt is not due
local function unavailable(job_key, tombstone_key, now)
  local job = redis.call('HMGET', job_key, 'state', 'lease_until', 'attempt', 'max_attempts', 'parked_until')
  local state, lease_until = job[1], number(job[2])
  if not state then return { redis.call('EXISTS', tombstone_key) == 1 and 'gone' or 'missing' } end
  if TERMINAL[state] then return { 'terminal', state } end
  if state == 'running' then
    if lease_until > now then return { 'leased', lease_until - now } end
    return { 'lost' }
  end
  -- 10: records of earlier versions do not say how many.
  if number(job[3]) >= (tonumber(job[4]) or 10) then return { 'spent' } end
  local parked_ms = number(job[5]) - now
  if parked_ms > 0 then return { 'parked', tostring(parked_ms) } end
  return nil
end

-- Counts a job's time to start from `now`, if it has one.
local function start_clock(job_key, now)
  local timeout_ms = tonumber(redis.call('HGET', job_key, 'start_timeout_ms'))
  if timeout_ms then redis.call('HSET', job_key, 'start_by_ms', now + timeout_ms) end
end

-- Whether it is too late for a job to start.
local function start_overdue(job_key, now)
  local start_by = tonumber(redis.call('HGET', job_key, 'start_by_ms'))
  return start_by and start_by <= now
end

-- A job waits (again): in its old place, and not beyond the time by which it must start.
local function wait_in_line(job_key, queued_key, deadlines_key, job)
  local times = redis.call('HMGET', job_key, 'created_ms', 'start_by_ms')
  redis.call('ZADD', queued_key, number(times[1]), job)
  local start_by = tonumber(times[2])
  if start_by then redis.call('ZADD', deadlines_key, start_by, job) end
end

-- The latest entries of a record's list that are kept.
local LISTED = 16

-- Appends an entry to a list in the record; `replaces(known)`: whether it takes the place of one.
local function append(job_key, field, entry, replaces)
  local readable, known = pcall(cjson.decode, redis.call('HGET', job_key, field) or '[]')
  if not readable or type(known) ~= 'table' then known = {} end
  local list = {}
  for _, one in ipairs(known) do
    if not replaces(one) then list[#list + 1] = one end
  end
  list[#list + 1] = entry
  while #list > LISTED do table.remove(list, 1) end
  redis.call('HSET', job_key, field, cjson.encode(list))
end

-- A running job comes back after an attempt that counts: notes until when its message is parked, and a runner to avoid.
-- ARGV from `first` on are the pauses (ms) after the first attempt, the second, ...; the last one also after those that follow.
-- Returns the pause (ms), nil after the last attempt.
local function park(job_key, now, first)
  local job = redis.call('HMGET', job_key, 'attempt', 'max_attempts', 'runner')
  local attempt, runner = number(job[1]), job[3]
  if runner then append(job_key, 'avoid', runner, function(known) return known == runner end) end
  if attempt >= (tonumber(job[2]) or 10) then return nil end
  local pause_ms = number(ARGV[math.min(first + math.max(attempt, 1) - 1, #ARGV)])
  redis.call('HSET', job_key, 'parked_until', now + pause_ms)
  return pause_ms
end

-- The fields of an attempt that is over.
local function clear_attempt(job_key)
  redis.call('HDEL', job_key, 'progress', 'lease_until', 'runner', 'decision')
end

-- A line for the job's owner, as store::log::LogLine reads it. `runner`: whom it is about, or ''. A list, since a stream
-- takes 4 KB from its first entry on. The first 200 lines are kept, so that a reader's place never moves.
local function log(log_key, level, message, runner)
  if redis.call('LLEN', log_key) >= 200 then return end
  if runner == '' then runner = nil end
  redis.call('RPUSH', log_key, cjson.encode({ at_ms = now_ms(), level = level, message = message, runner = runner }))
end

-- A job's entry among those that wait or run: its owner and its id, so that an owner's are a range. nil for a job that is not
-- counted: one without owner, or a flow's step, whose flow is.
local function active_entry(job_key, job)
  local said = redis.call('HMGET', job_key, 'owner', 'step_of')
  return not said[2] and said[1] and said[1] .. ' ' .. job or nil
end

-- The job waits or runs from now on.
local function join_active(active_key, job_key, job)
  local entry = active_entry(job_key, job)
  if entry then redis.call('ZADD', active_key, 0, entry) end
end

-- The job ended, or is taken back.
local function leave_active(active_key, job_key, job)
  local entry = active_entry(job_key, job)
  if entry then redis.call('ZREM', active_key, entry) end
end

-- Shortens what is kept of a job that ended to its retention; `default_s` for a record that does not say. `keys`: job, log,
-- active, tombstone. A tombstone is left where copies of the message may outlive the record, so that none of them runs the job again.
local function keep_ended(keys, job, default_s)
  leave_active(keys.active, keys.job, job)
  local said = redis.call('HMGET', keys.job, 'retention_s', 'no_store', 'state', 'step_of')
  local retention_s = tonumber(said[1]) or tonumber(default_s)
  if said[2] then redis.call('HDEL', keys.job, 'input') end
  -- What a flow needs while it is under way.
  redis.call('HDEL', keys.job, 'excerpt', 'headers', 'outputs')
  redis.call('EXPIRE', keys.job, retention_s)
  redis.call('EXPIRE', keys.log, retention_s)
  local copies_s = said[4] and STEP_COPIES_S or COPIES_S
  if retention_s < copies_s then redis.call('SET', keys.tombstone, said[3], 'EX', copies_s) end
end

-- Notes an end that is to be announced; see store/outbox.rs.
local function to_tell(outbox_key, job, now)
  redis.call('ZADD', outbox_key, now, job)
end

-- Ends a job without a result. A result that comes late all the same is refused: the job is no longer running. `keys`: job,
-- queued, outbox, log, active, tombstone.
local function end_unrun(keys, job, state, now, default_s)
  log(keys.log, 'ERROR', state == 'expired' and 'expired: it had not started in time' or state, '')
  redis.call('HSET', keys.job, 'state', state, 'finished_ms', now)
  to_tell(keys.outbox, job, now)
  redis.call('HDEL', keys.job, 'progress', 'lease_until')
  redis.call('ZREM', keys.queued, job)
  keep_ended(keys, job, default_s)
end

-- A change of the fleet, as store::changes::Change reads it. `rest`: further fields, each with a comma in front.
local function tell(channel, what, runner, epoch, rest)
  redis.call('PUBLISH', channel, '{"what":"' .. what .. '","runner":"' .. runner .. '","epoch":' .. epoch .. rest .. '}')
end

-- The runner can be claimed, with all that a dispatcher needs to choose a job for it. `ran`: JSON, or ''.
local function tell_free(runner_key, channel, runner, ran)
  local frees = redis.call('HINCRBY', runner_key, 'frees', 1)
  local known = redis.call('HMGET', runner_key, 'epoch', 'slots', 'hints', 'models')
  if not known[1] then return end
  local rest = ',"frees":' .. frees .. ',"slots":' .. (known[2] or 1) .. ',"hints":' .. (known[3] or '[]')
  if ran ~= '' then rest = rest .. ',"ran":' .. ran end
  -- Once per incarnation: the list may be long.
  if frees == 1 then rest = rest .. ',"models":' .. (known[4] or '[]') end
  tell(channel, 'freed', runner, known[1], rest)
end

-- The runner can be claimed again. Told only when it is news.
local function set_idle(idle_key, runner_key, channel, runner, ran)
  redis.call('HDEL', runner_key, 'claimed_until', 'job')
  if redis.call('SADD', idle_key, runner) == 1 then tell_free(runner_key, channel, runner, ran) end
end
