-- Stores the models of a runner that change between its jobs.
-- KEYS 1 runner, 2 idle, 3 blank, then the hint sets to leave, then those to join
-- ARGV 1 runner id, 2 epoch, 3 hints (JSON), 4 number of hints, 5 memory used (bytes), 6 slots,
--      7 number of hint sets to leave, 8 channel of runner events
-- Returns 1, or 0 if the runner is no longer registered
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[2] then return 0 end
local leave = tonumber(ARGV[7])
for i = 4, #KEYS do
  redis.call(i < 4 + leave and 'SREM' or 'SADD', KEYS[i], ARGV[1])
end
redis.call(ARGV[4] == '0' and 'SADD' or 'SREM', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[1], 'hints', ARGV[3], 'slots', ARGV[6], 'memory_bytes', ARGV[5])
-- Dispatchers receive the models of a busy runner once it is free.
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then publish_freed(KEYS[1], ARGV[8], ARGV[1], '') end
return 1
