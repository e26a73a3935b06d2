-- Removes a runner that left or is lost.
-- KEYS 1 runner, 2 idle, 3 runners, 4 blank, 5 lost runner jobs, 6 ended, 7 faulty, 8 draining,
--      then the sets of the hints that it reported
-- ARGV 1 runner id, 2 epoch, 3 'left' | 'lost', 4 hints (JSON) as the caller read them, 5 channel
--      of runner events
-- Returns 1, or 0 if the runner is another incarnation, its hints changed meanwhile, or its lease
--      is valid ('lost')
local runner = redis.call('HMGET', KEYS[1], 'epoch', 'hints', 'job')
if runner[1] ~= ARGV[2] or (runner[2] or '[]') ~= ARGV[4] then return 0 end
if ARGV[3] == 'lost' then
  local lease_until = redis.call('ZSCORE', KEYS[3], ARGV[1])
  if lease_until and tonumber(lease_until) > now_ms() then return 0 end
end
for i = 9, #KEYS do redis.call('SREM', KEYS[i], ARGV[1]) end
redis.call('SREM', KEYS[4], ARGV[1])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[7], ARGV[1])
redis.call('SREM', KEYS[8], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[1])
-- The broker redelivers its job's message unless it lost it; the runner deletes its queue unless it
-- crashed.
local now = now_ms()
if runner[3] then redis.call('ZADD', KEYS[5], now, runner[3]) end
redis.call('ZADD', KEYS[6], now, ARGV[1] .. ' ' .. ARGV[2])
publish_event(ARGV[5], 'gone', ARGV[1], ARGV[2], '')
return 1
