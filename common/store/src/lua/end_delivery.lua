-- Notes how an attempt to tell a job's webhook went, for the next one and for the job's owner.
-- KEYS 1 webhook, 2 job, 3 log
-- ARGV 1 the end that was told (Unix ms), 2 attempts made, 3 how long nobody may tell it now (ms), 4 level and 5 text of the log's line
-- Returns nothing; of an end that is not the job's any more nothing is noted
if redis.call('HGET', KEYS[2], 'finished_ms') ~= ARGV[1] or redis.call('HGET', KEYS[1], 'end') ~= ARGV[1] then return end
redis.call('HSET', KEYS[1], 'made', ARGV[2], 'not_before', now_ms() + ARGV[3])
log(KEYS[3], ARGV[4], ARGV[5], '')
local left = redis.call('PTTL', KEYS[2])
if left > 0 then redis.call('PEXPIRE', KEYS[3], left) end
