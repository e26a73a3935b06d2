-- Records that a job is moved to the app's shared queue.
-- KEYS 1 job, 2 log, 3 tombstone, 4 job list
-- ARGV 1 decision (JSON), 2 the decision in a sentence
-- Returns {'shared'} | see unavailable()
local now = now_ms()
local reason = unavailable(KEYS[1], KEYS[3], now)
if reason then return reason end
set_state(KEYS[1], KEYS[4], 'dispatched')
redis.call('HSET', KEYS[1], 'dispatched_ms', now, 'decision', ARGV[1])
redis.call('HDEL', KEYS[1], 'runner')
log(KEYS[2], 'INFO', ARGV[2], '')
return { 'shared' }
