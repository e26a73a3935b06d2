-- Requeues a running job. The attempt counts only if it failed; the next one is then delayed.
-- KEYS 1 job, 2 queued, 3 start deadlines, 4 log, 5 job list
-- ARGV 1 job id, 2 fence, 3 failure reason, '' if the attempt is not counted, 4 the
--      runner's fault (JSON), '' without one that may be the job's, then the delays after the first
--      attempt, the second, ... (ms)
-- Returns 1, or 0 if the job is no longer this attempt's
local job = redis.call('HMGET', KEYS[1], 'state', 'fence', 'runner')
if job[1] ~= 'running' or job[2] ~= ARGV[2] then return 0 end
local now = now_ms()
set_state(KEYS[1], KEYS[5], 'queued')
redis.call('HSET', KEYS[1], 'reconciled_ms', now)
local cause = ARGV[3]
if cause ~= '' then
  if ARGV[4] ~= '' then append(KEYS[1], 'faults', cjson.decode(ARGV[4]), function() return false end) end
  park(KEYS[1], now, 5)
else
  redis.call('HINCRBY', KEYS[1], 'attempt', -1)
  cause = 'the runner is stopping'
end
clear_attempt(KEYS[1])
enqueue(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
log(KEYS[4], 'WARN', 'requeued: ' .. cause, job[3] or '')
return 1
