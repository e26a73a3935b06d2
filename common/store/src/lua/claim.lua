-- Reserves an idle runner for a job.
-- KEYS 1 job, 2 runner, 3 idle, 4 log, 5 tombstone, 6 job list
-- ARGV 1 job id, 2 runner id, 3 duration of the claim (ms), 4 decision (JSON), 5 the decision in a
--      sentence
-- Returns {'claimed', epoch} | {'refused'} | see unavailable()
local now = now_ms()
local reason = unavailable(KEYS[1], KEYS[5], now)
if reason then return reason end
local epoch = redis.call('HGET', KEYS[2], 'epoch')
-- Removed from the idle set in any case: a name without a runner would be chosen for ever.
local was_idle = redis.call('SREM', KEYS[3], ARGV[2]) == 1
if not (epoch and was_idle) then return { 'refused' } end
redis.call('HSET', KEYS[2], 'claimed_until', now + ARGV[3], 'job', ARGV[1])
set_state(KEYS[1], KEYS[6], 'dispatched')
redis.call('HSET', KEYS[1], 'dispatched_ms', now, 'runner', ARGV[2], 'decision', ARGV[4])
log(KEYS[4], 'INFO', ARGV[5], ARGV[2])
return { 'claimed', epoch }
