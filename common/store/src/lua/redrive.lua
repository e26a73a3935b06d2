-- Restores all attempts of a quarantined job, and its time to start from now on. Its faults are
-- reset; its avoid list remains.
-- KEYS 1 job, 2 queued, 3 start deadlines, 4 log, 5 job list, 6 active, 7 tombstone,
--      8 trims of the list
-- ARGV 1 job id
-- Returns 1, or 0 if the job is not quarantined (any more)
local job = redis.call('HMGET', KEYS[1], 'state', 'quarantined')
if job[1] ~= 'failed' or not job[2] then return 0 end
-- The fence continues: a lost runner may still be running.
redis.call('ZREM', KEYS[8], trim_member(KEYS[1]))
set_state(KEYS[1], KEYS[5], 'queued')
redis.call('HSET', KEYS[1], 'attempt', 0, 'reconciled_ms', now_ms())
redis.call('HDEL', KEYS[1], 'quarantined', 'error', 'finished_ms', 'lost_runners', 'hold', 'parked_until', 'faults')
redis.call('PERSIST', KEYS[1])
redis.call('PERSIST', KEYS[4])
redis.call('DEL', KEYS[7])
log(KEYS[4], 'INFO', 'it is tried again', '')
set_start_deadline(KEYS[1], now_ms())
enqueue(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
join_active(KEYS[6], KEYS[1], ARGV[1])
return 1
