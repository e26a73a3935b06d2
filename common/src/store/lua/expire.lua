-- Ends a job that has not started in time.
-- KEYS 1 job, 2 queued, 3 start deadlines, 4 untold, 5 log, 6 active
-- ARGV 1 job id, 2 retention (s)
-- Returns 1 if the job has expired by this; 0 if it started in time, ended before, or has time left
local now = now_ms()
local state = redis.call('HGET', KEYS[1], 'state')
local waits = state and state ~= 'running' and not TERMINAL[state]
if waits and not start_overdue(KEYS[1], now) then return 0 end
redis.call('ZREM', KEYS[3], ARGV[1])
if not waits then return 0 end
end_unrun(KEYS[1], KEYS[5], KEYS[2], KEYS[4], KEYS[6], ARGV[1], 'expired', now, ARGV[2])
return 1
