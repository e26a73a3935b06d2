-- Expires a job that has not started in time. The dispatcher that holds it receives a message.
-- KEYS 1 job, 2 queued, 3 start deadlines, 4 outbox, 5 log, 6 active, 7 tombstone, 8 job list,
--      9 its trims
-- ARGV 1 job id, 2 retention (s), 3 cancelled channel
-- Returns 1 if the job has expired; 0 if it started in time, ended before, or has time left
local now = now_ms()
local state = redis.call('HGET', KEYS[1], 'state')
local waits = state and state ~= 'running' and not TERMINAL[state]
if waits and not start_overdue(KEYS[1], now) then return 0 end
redis.call('ZREM', KEYS[3], ARGV[1])
if not waits then return 0 end
local keys = { job = KEYS[1], queued = KEYS[2], outbox = KEYS[4], log = KEYS[5], active = KEYS[6], tombstone = KEYS[7],
  list = KEYS[8], trims = KEYS[9] }
end_without_result(keys, ARGV[1], 'expired', now, ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[1])
return 1
