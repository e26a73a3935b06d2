-- Notes that a job goes to the app's shared queue.
-- KEYS 1 job
-- ARGV 1 decision (JSON)
-- Returns {'shared'} | see unavailable()
local now = now_ms()
local reason = unavailable(KEYS[1], now)
if reason then return reason end
redis.call('HSET', KEYS[1], 'state', 'dispatched', 'dispatched_ms', now, 'decision', ARGV[1])
redis.call('HDEL', KEYS[1], 'runner')
return { 'shared' }
