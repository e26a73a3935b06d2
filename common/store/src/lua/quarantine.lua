-- Ends a job without attempts left, so that it crashes no further runners.
-- KEYS 1 job, 2 queued, 3 to 12 see ending_keys()
-- ARGV 1 job id, 2 error (JSON), 3 retention (s) of a record without one, 4 the error in a sentence
-- Returns 1, or 0 if the job has an attempt left, runs, or ended
local now, keys = now_ms(), ending_keys(KEYS[1], 3)
local reason = unavailable(KEYS[1], keys.tombstone, now)
if not reason or reason[1] ~= 'spent' then return 0 end
redis.call('HSET', KEYS[1], 'error', ARGV[2], 'quarantined', '1')
redis.call('HDEL', KEYS[1], 'runner', 'decision')
redis.call('ZREM', KEYS[2], ARGV[1])
log(keys.log, 'ERROR', ARGV[4], '')
end_job(keys, ARGV[1], 'failed', now, ARGV[3])
return 1
