-- Registers a runner that takes no jobs: it is listed with its fault, and never idle.
-- KEYS 1 runner, 2 runners, 3 faulty, 4 drain request, 5 draining
-- ARGV 1 runner id, 2 lease (ms), then field, value, ... of the runner
-- Returns 1
local now = now_ms()
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'since_ms', now, unpack(ARGV, 3))
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
if not resume_drain(KEYS[1], KEYS[4], KEYS[5], ARGV[1]) then redis.call('SADD', KEYS[3], ARGV[1]) end
return 1
