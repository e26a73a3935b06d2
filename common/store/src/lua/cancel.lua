-- Cancels a job. The dispatcher that holds it and the worker that runs it receive a message.
-- KEYS 1 job, 2 queued, 3 outbox, 4 log, 5 active, 6 tombstone, 7 job list, 8 its trims
-- ARGV 1 job id, 2 retention (s), 3 cancelled channel
-- Returns {'cancelled'} | {'ended', state} | {'missing'}
local job = redis.call('HMGET', KEYS[1], 'state', 'started_ms', 'lease_until')
local state, now = job[1], now_ms()
if not state then return { 'missing' } end
if TERMINAL[state] then return { 'ended', state } end
local keys = { job = KEYS[1], queued = KEYS[2], outbox = KEYS[3], log = KEYS[4], active = KEYS[5], tombstone = KEYS[6],
  list = KEYS[7], trims = KEYS[8] }
-- The timings of a running attempt will be refused.
if state == 'running' then
  redis.call('HSET', KEYS[1], 'gpu_ms', math.max(0, math.min(now, number(job[3])) - number(job[2])))
end
end_without_result(keys, ARGV[1], 'cancelled', now, ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[1])
return { 'cancelled' }
