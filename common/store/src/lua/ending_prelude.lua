-- Shared by the scripts that end jobs: state, outbox, ended jobs, history, usage, expiry.
-- HISTORY_MINUTES: number of minutes in the ring of an app's history.
-- USAGE_DAYS: number of days for which the usage of a day is kept.

-- The keys of an end: the job's, and from KEYS[first] on those of keys::ending, at last a channel.
local function ending_keys(job_key, first)
  return { job = job_key, outbox = KEYS[first], log = KEYS[first + 1], active = KEYS[first + 2], tombstone = KEYS[first + 3],
    list = KEYS[first + 4], trims = KEYS[first + 5], index = KEYS[first + 6], history = KEYS[first + 7],
    usage = KEYS[first + 8], ended = KEYS[first + 9] }
end

-- Whether a role needs the event of a job's end: then Topology::event_key has a key for it.
local function has_event(job_key)
  local job = redis.call('HMGET', job_key, 'reply_to', 'webhook', 'step_of', 'no_store', 'stored_input')
  return job[1] or job[2] or job[3] or (job[4] and job[5])
end

-- A JSON object; empty if it is none.
local function parsed(json)
  local readable, value = pcall(cjson.decode, json or '')
  return readable and type(value) == 'table' and value or {}
end

-- Counts an end in the minute of the app's history; see history.rs.
local function count_in_history(history_key, job, now)
  local minute = math.floor(now / 60000)
  local slot = minute % HISTORY_MINUTES
  local counts = parsed(redis.call('HGET', history_key, slot))
  if counts.minute ~= minute then counts = { minute = minute } end
  local function add(name, value) counts[name] = (counts[name] or 0) + value end
  add(job.state, 1)
  if job.started_ms then
    add('started', 1)
    add('wait_ms', math.max(0, job.started_ms - job.created_ms))
  end
  if job.state == 'succeeded' then
    add('run_ms', number(job.timings.run_ms))
    -- A job without a hint needs no model in particular.
    if job.hint and job.timings.warm ~= nil then
      add(job.timings.warm and 'warm' or 'cold', 1)
      add('load_ms', number(job.timings.load_ms))
      if job.timings.warm and number(job.decision.held_ms) > 0 then add('swaps_avoided', 1) end
    end
  end
  redis.call('HSET', history_key, slot, cjson.encode(counts))
end

-- Counts an end in the usage of its day, key and app; see usage.rs.
local function count_in_usage(usage_keys, job_key, job, now)
  local usage_key = usage_keys .. math.floor(now / 86400000)
  local entry = (job.owner or '') .. ' ' .. app_and_id(job_key) .. ' '
  local function add(name, value)
    if value > 0 then redis.call('HINCRBY', usage_key, entry .. name, value) end
  end
  add(job.state, 1)
  add('pictures', job.pictures)
  add('gpu_ms', job.timings.run_ms and number(job.timings.load_ms) + number(job.timings.run_ms) or job.gpu_ms)
  add('load_ms', number(job.timings.load_ms))
  if redis.call('TTL', usage_key) < 0 then redis.call('EXPIRE', usage_key, USAGE_DAYS * 86400) end
end

local function count_end(keys, state, now)
  local fields = redis.call('HMGET', keys.job, 'created_ms', 'started_ms', 'timings', 'decision', 'hint', 'owner', 'pictures', 'gpu_ms', 'flow')
  -- Those of a flow are the sums of its steps', which are counted themselves.
  local timings = fields[9] and {} or parsed(fields[3])
  local job = { state = state, created_ms = number(fields[1]), started_ms = tonumber(fields[2]), timings = timings,
    decision = parsed(fields[4]), hint = fields[5], owner = fields[6], pictures = number(fields[7]), gpu_ms = number(fields[8]) }
  count_in_history(keys.history, job, now)
  count_in_usage(keys.usage, keys.job, job, now)
end

-- Limits the keys of an ended job to its retention; `default_s` for a record without one. Leaves a
-- tombstone where copies of the message may outlive the record, so that none of them runs the job
-- again.
local function expire_record(keys, job, state, now, default_s)
  local fields = redis.call('HMGET', keys.job, 'retention_s', 'no_store', 'step_of')
  local retention_s = tonumber(fields[1]) or tonumber(default_s)
  if fields[2] then redis.call('HDEL', keys.job, 'input') end
  -- Needed only while a flow is active.
  redis.call('HDEL', keys.job, 'excerpt', 'headers', 'outputs')
  redis.call('EXPIRE', keys.job, retention_s)
  redis.call('EXPIRE', keys.log, retention_s)
  redis.call('EXPIRE', keys.index, retention_s)
  redis.call('ZADD', keys.trims, now + retention_s * 1000, trim_member(keys.job))
  local copies_s = fields[3] and STEP_COPIES_S or COPIES_S
  if retention_s < copies_s then redis.call('SET', keys.tombstone, state, 'EX', copies_s) end
end

-- Ends a job whose outcome is in its record: once per end, since a job that ended is terminal. Its
-- event, if any, is due from now on; see outbox.rs. Requests that wait for the job wake.
local function end_job(keys, job, state, now, default_s)
  set_state(keys.job, keys.list, state)
  redis.call('HSET', keys.job, 'finished_ms', now)
  redis.call('HDEL', keys.job, 'progress', 'lease_until')
  if has_event(keys.job) then redis.call('ZADD', keys.outbox, now, job) end
  redis.call('PUBLISH', keys.ended, job)
  leave_active(keys.active, keys.job, job)
  count_end(keys, state, now)
  expire_record(keys, job, state, now, default_s)
end

-- Ends a waiting or running job without a result. A result that arrives later is refused: the job
-- is no longer running.
local function end_without_result(keys, queued_key, job, state, now, default_s)
  log(keys.log, 'ERROR', state == 'expired' and 'expired: it had not started in time' or state, '')
  redis.call('ZREM', queued_key, job)
  end_job(keys, job, state, now, default_s)
end
