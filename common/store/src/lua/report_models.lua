-- Stores the models of a runner that change between its jobs.
-- KEYS 1 runner, 2 idle, 3 blank, then the hint sets to leave, then those to join
-- ARGV 1 runner id, 2 epoch, 3 number of hints, 4 number of hint sets to leave, 5 channel of runner
--      events, then field, value, ... of the runner
-- Returns 1, or 0 if the runner is no longer registered
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[2] then return 0 end
update_hint_sets(4, tonumber(ARGV[4]), ARGV[1])
redis.call(ARGV[3] == '0' and 'SADD' or 'SREM', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
-- Dispatchers receive the models of a busy runner once it is free.
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then publish_freed(KEYS[1], ARGV[5], ARGV[1], '') end
return 1
