-- Requests that a runner takes no further job, ends the one that it has, and leaves. Its dispatcher
-- counts it as gone from now on.
-- KEYS 1 runner, 2 idle, 3 drain request, 4 draining, 5 faulty
-- ARGV 1 runner id, 2 channel of runner events
-- Returns 1, or 0 if the runner is not registered
local runner = redis.call('HMGET', KEYS[1], 'epoch', 'instance')
if not runner[1] then return 0 end
redis.call('SET', KEYS[3], runner[2] or '', 'EX', DRAIN_REQUEST_S)
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[5], ARGV[1])
redis.call('SADD', KEYS[4], ARGV[1])
if redis.call('HSET', KEYS[1], 'draining', 1) == 1 then
  publish_event(ARGV[2], 'gone', ARGV[1], runner[1], '')
end
return 1
