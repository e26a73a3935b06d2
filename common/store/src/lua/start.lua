-- Starts an attempt: lease, fence, and the runner is busy. A runner that took the job from the
-- shared queue claims itself here, unless the dispatcher claimed it for another job first. A
-- repeated call, after a lost response, returns the same lease: a runner has one job at a time.
-- KEYS 1 job, 2 runner, 3 idle, 4 queued, 5 to 14 see ending_keys()
-- ARGV 1 job id, 2 runner id, 3 epoch, 4 lease (ms), 5 'claim' | 'shared' | 'outage': it began
--      while Redis was unavailable, 6 channel of runner events, 7 retention (s), of a job
--      whose deadline passed, 8 time since its begin (ms)
-- Returns {'started', attempt, fence} | {'stale'} | {'claimed'}
--      | {'draining'}: it takes no job of the shared queue | see unavailable()
local now = now_ms()
local began = now - ARGV[8]
local during_outage = ARGV[5] == 'outage'
local job = redis.call('HMGET', KEYS[1], 'state', 'runner', 'epoch', 'attempt', 'fence')
if job[1] == 'running' and job[2] == ARGV[2] and job[3] == ARGV[3] then
  redis.call('HSET', KEYS[1], 'lease_until', now + ARGV[4])
  return { 'started', job[4], job[5] }
end
local runner = redis.call('HMGET', KEYS[2], 'epoch', 'claimed_until', 'frees', 'draining')
-- A job that runs already counts, whether or not its runner is still registered.
local registered = runner[1] == ARGV[3]
if not registered and not during_outage then return { 'stale' } end
if ARGV[5] == 'shared' and number(runner[2]) > now then return { 'claimed' } end
if ARGV[5] == 'shared' and runner[4] then return { 'draining' } end
local keys = ending_keys(KEYS[1], 5)
local reason = unavailable(KEYS[1], keys.tombstone, now)
-- A job that runs already no longer waits.
if during_outage and reason and reason[1] == 'parked' then reason = nil end
if not reason and start_overdue(KEYS[1], began) then
  end_without_result(keys, KEYS[4], ARGV[1], 'expired', now, ARGV[7])
  reason = { 'terminal', 'expired' }
end
if reason then
  if not during_outage then set_idle(KEYS[3], KEYS[2], ARGV[6], ARGV[2], runner[4], '') end
  return reason
end
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
set_state(KEYS[1], keys.list, 'running')
redis.call('HSET', KEYS[1], 'runner', ARGV[2], 'epoch', ARGV[3], 'started_ms', began, 'lease_until', now + ARGV[4])
redis.call('HDEL', KEYS[1], 'progress', 'parked_until')
log(keys.log, 'INFO', 'attempt ' .. attempt .. ' begins', ARGV[2])
redis.call('ZREM', KEYS[4], ARGV[1])
if registered then
  -- After a claim the runner is known to be busy.
  if redis.call('SREM', KEYS[3], ARGV[2]) == 1 then
    publish_event(ARGV[6], 'taken', ARGV[2], ARGV[3], ',"frees":' .. (runner[3] or 0))
  end
  redis.call('HDEL', KEYS[2], 'claimed_until')
  redis.call('HSET', KEYS[2], 'job', ARGV[1])
end
return { 'started', tostring(attempt), tostring(fence) }
