-- Ends a job that has not started in time. It stays among the deadlines until its end was announced.
-- KEYS 1 job, 2 queued, 3 start deadlines, 4 log
-- ARGV 1 job id, 2 retention (s)
-- Returns 1 if the job has expired, now or before; 0 if it started in time, ended otherwise, or has time left
local now = now_ms()
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'expired' then return 1 end
if not state or state == 'running' or TERMINAL[state] then
  redis.call('ZREM', KEYS[3], ARGV[1])
  return 0
end
if not start_overdue(KEYS[1], now) then return 0 end
end_unrun(KEYS[1], KEYS[4], KEYS[2], ARGV[1], 'expired', now, ARGV[2])
return 1
