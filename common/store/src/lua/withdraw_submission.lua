-- Withdraws a failed submission, and with the last one the record. A tombstone remains, since the
-- message may have arrived; a repeated submission removes it.
-- KEYS 1 job, 2 queued, 3 log, 4 active, 5 tombstone, 6 job list
-- ARGV 1 job id
-- Returns 1, or 0 when the job reached a dispatcher all the same, or another submission of it
--      continues
if redis.call('HGET', KEYS[1], 'state') ~= 'queued' then return 0 end
if redis.call('HINCRBY', KEYS[1], 'submissions', -1) > 0 then return 0 end
leave_active(KEYS[4], KEYS[1], ARGV[1])
unlist_job(KEYS[1], KEYS[6])
redis.call('DEL', KEYS[1], KEYS[3])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SET', KEYS[5], 'withdrawn', 'EX', COPIES_S)
return 1
