-- Appends events to the stream of a running job: the first 1000 are kept, for an hour after the
-- last one.
-- KEYS 1 job, 2 events
-- ARGV 1 fence, then events (JSON)
-- Returns 1, or 0 if the job is no longer this attempt's
local job = redis.call('HMGET', KEYS[1], 'state', 'fence')
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return 0 end
local room = 1000 - redis.call('LLEN', KEYS[2])
for i = 2, math.min(#ARGV, room + 1) do redis.call('RPUSH', KEYS[2], ARGV[i]) end
redis.call('EXPIRE', KEYS[2], 3600)
return 1
