-- Notes that a job is held for a warm runner.
-- KEYS 1 job
-- ARGV 1 hold (JSON)
-- Returns 1, or 0 when it needs no runner any more, or somebody runs it
if unavailable(KEYS[1], now_ms()) then return 0 end
redis.call('HSET', KEYS[1], 'hold', ARGV[1])
return 1
