-- Gives a quarantined job all its attempts again.
-- KEYS 1 job, 2 queued, 3 log, 4 active
-- ARGV 1 job id
-- Returns 1, or 0 when the job is not quarantined (any more)
local job = redis.call('HMGET', KEYS[1], 'state', 'quarantined', 'created_ms')
if job[1] ~= 'failed' or not job[2] then return 0 end
-- The fence goes on counting: a lost runner may still be at work somewhere.
redis.call('HSET', KEYS[1], 'state', 'queued', 'attempt', 0)
redis.call('HDEL', KEYS[1], 'quarantined', 'error', 'finished_ms', 'lost_runners', 'hold')
redis.call('PERSIST', KEYS[1])
redis.call('PERSIST', KEYS[3])
log(KEYS[3], 'INFO', 'it is tried again', '')
redis.call('ZADD', KEYS[2], job[3], ARGV[1])
count_active(KEYS[4], KEYS[1], 1)
return 1
