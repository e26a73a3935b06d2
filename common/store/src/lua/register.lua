-- Registers a runner, also after it was lost. It becomes claimable, unless it drains.
-- KEYS 1 runner, 2 idle, 3 runners, 4 blank, 5 drain request, 6 draining, then the sets of
--      the hints that it reports
-- ARGV 1 runner id, 2 lease (ms), 3 channel of runner events, then field, value, ... of the runner
-- Returns 1
local now = now_ms()
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'since_ms', now, unpack(ARGV, 4))
redis.call('ZADD', KEYS[3], now + ARGV[2], ARGV[1])
redis.call(#KEYS == 6 and 'SADD' or 'SREM', KEYS[4], ARGV[1])
for i = 7, #KEYS do redis.call('SADD', KEYS[i], ARGV[1]) end
if resume_drain(KEYS[1], KEYS[5], KEYS[6], ARGV[1]) then return 1 end
redis.call('SADD', KEYS[2], ARGV[1])
publish_freed(KEYS[1], ARGV[3], ARGV[1], '')
return 1
