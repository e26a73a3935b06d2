-- Stores an idle runner's models after a change, and makes it claimable.
-- KEYS 1 runner, 2 idle, 3 blank, then the hint sets to leave, then those to join
-- ARGV 1 runner id, 2 epoch, 3 number of hints, 4 channel of runner events, 5 number of hint sets
--      to leave, then field, value, ... of the runner
-- Returns 1, or 0 if the runner is no longer registered
local runner = redis.call('HMGET', KEYS[1], 'epoch', 'draining')
if runner[1] ~= ARGV[2] then return 0 end
update_hint_sets(4, tonumber(ARGV[5]), ARGV[1])
redis.call(ARGV[3] == '0' and 'SADD' or 'SREM', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
set_idle(KEYS[2], KEYS[1], ARGV[4], ARGV[1], runner[2], '')
return 1
