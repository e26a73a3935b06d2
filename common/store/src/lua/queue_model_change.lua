-- Queues a change of a runner's models; the runner takes it between jobs.
-- KEYS 1 runner, 2 model changes
-- ARGV 1 change (JSON), 2 lifetime of the list (s)
-- Returns 1, or 0 if the runner is not registered
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
