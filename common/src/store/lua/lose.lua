-- Notes that a running job's runner is lost: its lease lapsed. The attempt counts.
-- KEYS 1 job, 2 queued, 3 log
-- ARGV 1 job id
-- Returns {'lost', attempt, runner} | {'kept'} when the job is not a lost runner's (any more)
local job = redis.call('HMGET', KEYS[1], 'state', 'lease_until', 'attempt', 'runner', 'created_ms', 'lost_runners')
local now = now_ms()
if job[1] ~= 'running' or tonumber(job[2] or 0) > now then return { 'kept' } end
local lost = cjson.decode(job[6] or '[]')
lost[#lost + 1] = job[4]
-- Its message may be parked for a while: that is no silence yet.
redis.call('HSET', KEYS[1], 'state', 'queued', 'lost_runners', cjson.encode(lost), 'reconciled_ms', now)
redis.call('HDEL', KEYS[1], 'progress', 'lease_until', 'runner', 'decision')
redis.call('ZADD', KEYS[2], job[5], ARGV[1])
log(KEYS[3], 'WARN', 'its runner was lost: it waits for another', job[4])
return { 'lost', job[3], job[4] }
