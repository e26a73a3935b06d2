-- In front of every script: the clock, the state table, logs, and how changes are told.

-- Redis' own clock, Unix ms.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local TERMINAL = { succeeded = true, failed = true, cancelled = true, expired = true }

-- Whether a job can be sent or started now. Returns nil if so, else the reason as a reply:
-- {'missing'} | {'terminal', state} | {'leased', ms left} | {'lost'}: its runner is, see lose.lua
-- | {'spent'}: it had all its attempts, see quarantine.lua
local function unavailable(job_key, now)
  local job = redis.call('HMGET', job_key, 'state', 'lease_until', 'attempt', 'max_attempts')
  local state, lease_until = job[1], tonumber(job[2] or 0)
  if not state then return { 'missing' } end
  if TERMINAL[state] then return { 'terminal', state } end
  if state == 'running' then
    if lease_until > now then return { 'leased', lease_until - now } end
    return { 'lost' }
  end
  -- 10: records of earlier versions do not say how many.
  if tonumber(job[3] or 0) >= tonumber(job[4] or 10) then return { 'spent' } end
  return nil
end

-- When a job must have started, Unix ms; false if at any time.
local function start_deadline(job_key)
  local job = redis.call('HMGET', job_key, 'created_ms', 'start_timeout_ms')
  return job[2] and job[1] + job[2]
end

-- Whether it is too late for a job to start.
local function start_overdue(job_key, now)
  local deadline = start_deadline(job_key)
  return deadline and deadline <= now
end

-- A line for the job's owner, as store::log::LogLine reads it. `runner`: whom it is about, or ''. A list, since a stream
-- takes 4 KB from its first entry on. The first 200 lines are kept, so that a reader's place never moves.
local function log(log_key, level, message, runner)
  if redis.call('LLEN', log_key) >= 200 then return end
  if runner == '' then runner = nil end
  redis.call('RPUSH', log_key, cjson.encode({ at_ms = now_ms(), level = level, message = message, runner = runner }))
end

-- One of its owner's jobs more (1) or less (-1) waits or runs. A job without owner is not counted, nor is a flow's step: its flow is.
local function count_active(active_key, job_key, by)
  local said = redis.call('HMGET', job_key, 'owner', 'step_of')
  local owner = not said[2] and said[1]
  if owner and redis.call('HINCRBY', active_key, owner, by) <= 0 then redis.call('HDEL', active_key, owner) end
end

-- What is kept of a job that ended, and for how long; `default_s` for a record that does not say.
local function keep_ended(job_key, log_key, active_key, default_s)
  count_active(active_key, job_key, -1)
  local said = redis.call('HMGET', job_key, 'retention_s', 'no_store')
  if said[2] then redis.call('HDEL', job_key, 'input') end
  -- What a flow needs while it is under way.
  redis.call('HDEL', job_key, 'excerpt', 'headers', 'outputs')
  redis.call('EXPIRE', job_key, said[1] or default_s)
  redis.call('EXPIRE', log_key, said[1] or default_s)
end

-- Notes an end that is to be announced; see store/untold.rs.
local function to_tell(untold_key, job, now)
  redis.call('ZADD', untold_key, now, job)
end

-- Ends a job without a result. A result that comes late all the same is refused: the job is no longer running.
local function end_unrun(job_key, log_key, queued_key, untold_key, active_key, job, state, now, default_s)
  log(log_key, 'ERROR', state == 'expired' and 'expired: it had not started in time' or state, '')
  redis.call('HSET', job_key, 'state', state, 'finished_ms', now)
  to_tell(untold_key, job, now)
  redis.call('HDEL', job_key, 'progress', 'lease_until')
  redis.call('ZREM', queued_key, job)
  keep_ended(job_key, log_key, active_key, default_s)
end

-- A change of the fleet, as store::changes::Change reads it. `rest`: further fields, each with a comma in front.
local function tell(channel, what, runner, epoch, rest)
  redis.call('PUBLISH', channel, '{"what":"' .. what .. '","runner":"' .. runner .. '","epoch":' .. epoch .. rest .. '}')
end

-- The runner can be claimed, with all that a dispatcher needs to choose a job for it. `ran`: JSON, or ''.
local function tell_free(runner_key, channel, runner, ran)
  local frees = redis.call('HINCRBY', runner_key, 'frees', 1)
  local known = redis.call('HMGET', runner_key, 'epoch', 'slots', 'hints')
  if not known[1] then return end
  local rest = ',"frees":' .. frees .. ',"slots":' .. (known[2] or 1) .. ',"hints":' .. (known[3] or '[]')
  if ran ~= '' then rest = rest .. ',"ran":' .. ran end
  tell(channel, 'freed', runner, known[1], rest)
end

-- The runner can be claimed again. Told only when it is news.
local function set_idle(idle_key, runner_key, channel, runner, ran)
  redis.call('HDEL', runner_key, 'claimed_until', 'job')
  if redis.call('SADD', idle_key, runner) == 1 then tell_free(runner_key, channel, runner, ran) end
end
