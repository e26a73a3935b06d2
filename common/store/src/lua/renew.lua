-- Renews a running job's lease.
-- KEYS 1 job
-- ARGV 1 fence, 2 lease (ms)
-- Returns 1, or 0 if the job is no longer this attempt's
local job = redis.call('HMGET', KEYS[1], 'state', 'fence')
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'lease_until', now_ms() + ARGV[2])
return 1
