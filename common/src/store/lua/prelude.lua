-- In front of every script: the clock, the state table, and how changes are told.

-- Redis' own clock, Unix ms.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local TERMINAL = { succeeded = true, failed = true, cancelled = true, expired = true }

-- Whether a job can be sent or started now. Returns nil if so, else the reason as a reply:
-- {'missing'} | {'terminal', state} | {'leased', ms left}
local function unavailable(job_key, now)
  local job = redis.call('HMGET', job_key, 'state', 'lease_until')
  local state, lease_until = job[1], tonumber(job[2] or 0)
  if not state then return { 'missing' } end
  if TERMINAL[state] then return { 'terminal', state } end
  if state == 'running' and lease_until > now then return { 'leased', lease_until - now } end
  return nil
end

-- The runner can be claimed again. Told only when it is news.
local function set_idle(idle_key, runner_key, channel, runner)
  redis.call('HDEL', runner_key, 'claimed_until', 'job')
  if redis.call('SADD', idle_key, runner) == 1 then
    redis.call('PUBLISH', channel, 'freed ' .. runner)
  end
end
