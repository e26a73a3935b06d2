-- Ends a job without attempts left, so that it crashes no further runners.
-- KEYS 1 job, 2 queued, 3 outbox, 4 log, 5 active, 6 tombstone, 7 job list, 8 its trims
-- ARGV 1 job id, 2 error (JSON), 3 retention (s) of a record without one, 4 the error in a sentence
-- Returns 1, or 0 if the job has an attempt left, runs, or ended
local now = now_ms()
local reason = unavailable(KEYS[1], KEYS[6], now)
if not reason or reason[1] ~= 'spent' then return 0 end
set_state(KEYS[1], KEYS[7], 'failed')
redis.call('HSET', KEYS[1], 'finished_ms', now, 'error', ARGV[2], 'quarantined', '1')
redis.call('HDEL', KEYS[1], 'runner', 'decision')
redis.call('ZREM', KEYS[2], ARGV[1])
add_to_outbox(KEYS[3], ARGV[1], now)
log(KEYS[4], 'ERROR', ARGV[4], '')
local keys = { job = KEYS[1], log = KEYS[4], active = KEYS[5], tombstone = KEYS[6], trims = KEYS[8] }
expire_record(keys, ARGV[1], ARGV[3])
return 1
