-- Notes that a job is held for a warm runner.
-- KEYS 1 job
-- ARGV 1 hold (JSON)
-- Returns {'held'} | see unavailable()
local reason = unavailable(KEYS[1], now_ms())
if reason then return reason end
redis.call('HSET', KEYS[1], 'hold', ARGV[1])
return { 'held' }
