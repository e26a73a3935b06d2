-- Takes back a record whose job never reached the queue: its submitter is told that it was not accepted.
-- KEYS 1 job, 2 queued
-- ARGV 1 job id
-- Returns 1, or 0 when the job reached a dispatcher all the same
if redis.call('HGET', KEYS[1], 'state') ~= 'queued' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
