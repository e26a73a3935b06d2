-- Expires a job that has not started in time. The dispatcher that holds it receives a message.
-- KEYS 1 job, 2 queued, 3 start deadlines, 4 to 13 see ending_keys()
-- ARGV 1 job id, 2 retention (s), 3 cancelled channel
-- Returns 1 if the job has expired; 0 if it started in time, ended before, or has time left
local now = now_ms()
local state = redis.call('HGET', KEYS[1], 'state')
local waits = state and state ~= 'running' and not TERMINAL[state]
if waits and not start_overdue(KEYS[1], now) then return 0 end
redis.call('ZREM', KEYS[3], ARGV[1])
if not waits then return 0 end
end_without_result(ending_keys(KEYS[1], 4), KEYS[2], ARGV[1], 'expired', now, ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[1])
return 1
