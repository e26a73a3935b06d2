-- Cancels a job. The dispatcher that holds it and the worker that runs it receive a message.
-- KEYS 1 job, 2 queued, 3 to 12 see ending_keys()
-- ARGV 1 job id, 2 retention (s), 3 cancelled channel
-- Returns {'cancelled'} | {'ended', state} | {'missing'}
local job = redis.call('HMGET', KEYS[1], 'state', 'started_ms', 'lease_until')
local state, now = job[1], now_ms()
if not state then return { 'missing' } end
if TERMINAL[state] then return { 'ended', state } end
-- The timings of a running attempt will be refused.
if state == 'running' then
  redis.call('HSET', KEYS[1], 'gpu_ms', math.max(0, math.min(now, number(job[3])) - number(job[2])))
end
end_without_result(ending_keys(KEYS[1], 3), KEYS[2], ARGV[1], 'cancelled', now, ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[1])
return { 'cancelled' }
