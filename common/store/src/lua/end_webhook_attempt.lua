-- Records the outcome of an attempt at a job's webhook.
-- KEYS 1 webhook, 2 job, 3 log
-- ARGV 1 end of the job (Unix ms), 2 attempts made, 3 delay until the next one (ms), 4 level and 5
--      text of the log's line
-- Returns nothing; nothing is recorded if the job has another end by now
if redis.call('HGET', KEYS[2], 'finished_ms') ~= ARGV[1] or redis.call('HGET', KEYS[1], 'end') ~= ARGV[1] then return end
redis.call('HSET', KEYS[1], 'made', ARGV[2], 'not_before', now_ms() + ARGV[3])
log(KEYS[3], ARGV[4], ARGV[5], '')
local left = redis.call('PTTL', KEYS[2])
if left > 0 then redis.call('PEXPIRE', KEYS[3], left) end
