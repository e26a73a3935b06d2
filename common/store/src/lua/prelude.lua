-- Prepended to every script: the clock, the state table, the job list, logs, and events of runners.

-- Redis' clock, Unix ms.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local TERMINAL = { succeeded = true, failed = true, cancelled = true, expired = true }

-- Lifetime of tombstones, s: copies of an ended job's message may arrive until then (longest retry
-- tier 1 h, consumer_timeout, backlog). A flow's step may be submitted again while its flow is
-- active.
local COPIES_S, STEP_COPIES_S = 24 * 3600, 7 * 24 * 3600

-- The job list: entries of all jobs in one sorted set, all with score 0, so that the jobs of a
-- filter are a range, in order of their ids, which is the order of time. See job_list.rs.

-- App and id of a job, from the key of its record.
local function app_and_id(job_key) return job_key:match('{(.-)}:job:(.+)$') end

-- The entries of a job that depend on its state.
local function state_entries(app, job, state)
  return 's=' .. state .. ' ' .. job .. ' ' .. app, 'a=' .. app .. ' ' .. state .. ' ' .. job
end

-- All entries of a job. `owner`, `hint`: '' for none. A hint may contain any character, so its
-- length, in bytes, precedes it.
local function list_entries(app, job, state, owner, hint)
  local entries = { state_entries(app, job, state) }
  if owner ~= '' then entries[#entries + 1] = 'k=' .. owner .. ' ' .. job .. ' ' .. app end
  if hint ~= '' then entries[#entries + 1] = 'h=' .. #hint .. ':' .. hint .. job .. ' ' .. app end
  return entries
end

-- State, owner and hint of a job, for its entries.
local function listed_fields(job_key)
  local fields = redis.call('HMGET', job_key, 'state', 'owner', 'hint')
  return fields[1], fields[2] or '', fields[3] or ''
end

-- Lists a new job.
local function list_job(job_key, list_key)
  local app, job = app_and_id(job_key)
  local scored = {}
  for _, entry in ipairs(list_entries(app, job, listed_fields(job_key))) do
    scored[#scored + 1] = 0
    scored[#scored + 1] = entry
  end
  redis.call('ZADD', list_key, unpack(scored))
end

-- Removes a job from the list, before its record.
local function unlist_job(job_key, list_key)
  local app, job = app_and_id(job_key)
  redis.call('ZREM', list_key, unpack(list_entries(app, job, listed_fields(job_key))))
end

-- Sets the state of a job, in its record and in the list.
local function set_state(job_key, list_key, state)
  local before = redis.call('HGET', job_key, 'state')
  if before == state then return end
  redis.call('HSET', job_key, 'state', state)
  local app, job = app_and_id(job_key)
  if before then redis.call('ZREM', list_key, state_entries(app, job, before)) end
  local by_state, by_app = state_entries(app, job, state)
  redis.call('ZADD', list_key, 0, by_state, 0, by_app)
end

-- An ended job as the list's trim finds it once its record is gone; see trim_job_list.lua.
local function trim_member(job_key)
  local app, job = app_and_id(job_key)
  return table.concat({ job, app, listed_fields(job_key) }, ' ')
end

-- A field as a number; 0 if missing.
local function number(text) return tonumber(text) or 0 end

-- Whether a job can be placed or started now. Returns nil if so, otherwise the reason as a reply:
-- {'missing'} | {'gone'}: it ended, and its retention is over | {'terminal', state}
-- | {'leased', ms left} | {'lost'}: its runner is lost, see mark_lost.lua
-- | {'spent'}: no attempt is left, see quarantine.lua
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
  -- 10: records of earlier versions have no number.
  if number(job[3]) >= (tonumber(job[4]) or 10) then return { 'spent' } end
  local parked_ms = number(job[5]) - now
  if parked_ms > 0 then return { 'parked', tostring(parked_ms) } end
  return nil
end

-- Sets a job's deadline to start, counted from `now`, if it has one.
local function set_start_deadline(job_key, now)
  local timeout_ms = tonumber(redis.call('HGET', job_key, 'start_timeout_ms'))
  if timeout_ms then redis.call('HSET', job_key, 'start_by_ms', now + timeout_ms) end
end

-- Whether the deadline to start has passed.
local function start_overdue(job_key, now)
  local start_by = tonumber(redis.call('HGET', job_key, 'start_by_ms'))
  return start_by and start_by <= now
end

-- Queues a job (again): at its former position, with its deadline to start.
local function enqueue(job_key, queued_key, deadlines_key, job)
  local times = redis.call('HMGET', job_key, 'created_ms', 'start_by_ms')
  redis.call('ZADD', queued_key, number(times[1]), job)
  local start_by = tonumber(times[2])
  if start_by then redis.call('ZADD', deadlines_key, start_by, job) end
end

-- Maximum length of a list in the record; the latest entries remain.
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

-- Ends an attempt that counts: records until when the message is parked, and a runner to avoid.
-- ARGV from `first` on are the delays (ms) after the first attempt, the second, ...; the last one
--      also after later ones.
-- Returns the delay (ms), nil after the last attempt.
local function park(job_key, now, first)
  local job = redis.call('HMGET', job_key, 'attempt', 'max_attempts', 'runner')
  local attempt, runner = number(job[1]), job[3]
  if runner then append(job_key, 'avoid', runner, function(known) return known == runner end) end
  if attempt >= (tonumber(job[2]) or 10) then return nil end
  local pause_ms = number(ARGV[math.min(first + math.max(attempt, 1) - 1, #ARGV)])
  redis.call('HSET', job_key, 'parked_until', now + pause_ms)
  return pause_ms
end

-- Removes the fields of an attempt that is over.
local function clear_attempt(job_key)
  redis.call('HDEL', job_key, 'progress', 'lease_until', 'runner', 'decision')
end

-- Appends a line to the job's log, in the format of log::LogLine. `runner`: its subject, or ''. A
-- list, since a stream takes 4 KB from its first entry on. The first 200 lines are kept, so that a
-- reader's position stays valid.
local function log(log_key, level, message, runner)
  if redis.call('LLEN', log_key) >= 200 then return end
  if runner == '' then runner = nil end
  redis.call('RPUSH', log_key, cjson.encode({ at_ms = now_ms(), level = level, message = message, runner = runner }))
end

-- A job's entry in the list of active jobs: owner and id, so that an owner's entries are a range.
-- nil for jobs that are not counted: those without an owner, and steps, whose flow is counted.
local function active_entry(job_key, job)
  local fields = redis.call('HMGET', job_key, 'owner', 'step_of')
  return not fields[2] and fields[1] and fields[1] .. ' ' .. job or nil
end

-- Counts the job as active.
local function join_active(active_key, job_key, job)
  local entry = active_entry(job_key, job)
  if entry then redis.call('ZADD', active_key, 0, entry) end
end

-- Removes the job from the active ones.
local function leave_active(active_key, job_key, job)
  local entry = active_entry(job_key, job)
  if entry then redis.call('ZREM', active_key, entry) end
end

-- Publishes an event of a runner, in the format of runner_feed::RunnerEvent. `rest`: further
-- fields, each after a comma.
local function publish_event(channel, what, runner, epoch, rest)
  redis.call('PUBLISH', channel, '{"what":"' .. what .. '","runner":"' .. runner .. '","epoch":' .. epoch .. rest .. '}')
end

-- Publishes that a runner can be claimed, with all that a dispatcher needs to choose a job for it.
-- `ran`: JSON, or ''.
local function publish_freed(runner_key, channel, runner, ran)
  local frees = redis.call('HINCRBY', runner_key, 'frees', 1)
  local known = redis.call('HMGET', runner_key, 'epoch', 'slots', 'hints', 'models', 'ram_slots', 'ram_hints')
  if not known[1] then return end
  local rest = ',"frees":' .. frees .. ',"slots":' .. (known[2] or 1) .. ',"hints":' .. (known[3] or '[]')
  -- Absent for a worker of an earlier version, and without a budget of RAM.
  if number(known[5]) > 0 then
    rest = rest .. ',"ram_slots":' .. known[5] .. ',"ram_hints":' .. (known[6] or '[]')
  end
  if ran ~= '' then rest = rest .. ',"ran":' .. ran end
  -- Once per incarnation: the list may be long.
  if frees == 1 then rest = rest .. ',"models":' .. (known[4] or '[]') end
  publish_event(channel, 'freed', runner, known[1], rest)
end

-- Updates the sets of hints after a report: the runner leaves the first `leave` of KEYS from
-- `first` on, and joins the others.
local function update_hint_sets(first, leave, runner)
  for i = first, #KEYS do
    redis.call(i < first + leave and 'SREM' or 'SADD', KEYS[i], runner)
  end
end

-- Lifetime of a drain request after its runner's last heartbeat, s.
local DRAIN_REQUEST_S = 3600

-- Whether the runner's process was requested to drain it in an earlier incarnation. Then the runner
-- drains in this one as well. A request to another process of the same name is removed.
local function resume_drain(runner_key, request_key, draining_key, runner)
  local process = redis.call('GET', request_key)
  if not process then return false end
  if process ~= redis.call('HGET', runner_key, 'instance') then
    redis.call('DEL', request_key)
    return false
  end
  redis.call('HSET', runner_key, 'draining', 1)
  redis.call('SADD', draining_key, runner)
  return true
end

-- Makes a runner claimable, unless `draining`, its field. Published only if it was not before.
local function set_idle(idle_key, runner_key, channel, runner, draining, ran)
  redis.call('HDEL', runner_key, 'claimed_until', 'job')
  if not draining and redis.call('SADD', idle_key, runner) == 1 then publish_freed(runner_key, channel, runner, ran) end
end
