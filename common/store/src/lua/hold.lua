-- Records that a job is held for a warm runner.
-- KEYS 1 job, 2 log, 3 tombstone
-- ARGV 1 hold (JSON), 2 the decision in a sentence
-- Returns {'held'} | see unavailable()
local reason = unavailable(KEYS[1], KEYS[3], now_ms())
if reason then return reason end
redis.call('HSET', KEYS[1], 'hold', ARGV[1])
log(KEYS[2], 'INFO', ARGV[2], '')
return { 'held' }
