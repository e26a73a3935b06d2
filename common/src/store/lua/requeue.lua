-- A runner gives a running job back unfinished. The attempt does not count, unless it failed.
-- KEYS 1 job, 2 queued, 3 start deadlines, 4 log
-- ARGV 1 job id, 2 fence, 3 why the attempt counts; '' if it does not
-- Returns 1, or 0 when the job is no longer this attempt's
local job = redis.call('HMGET', KEYS[1], 'state', 'fence', 'created_ms', 'runner')
if job[1] ~= 'running' or job[2] ~= ARGV[2] then return 0 end
-- Its message may be parked for a while: that is no silence yet.
redis.call('HSET', KEYS[1], 'state', 'queued', 'reconciled_ms', now_ms())
local why = ARGV[3]
if why == '' then
  redis.call('HINCRBY', KEYS[1], 'attempt', -1)
  why = 'its runner gave it back'
end
redis.call('HDEL', KEYS[1], 'progress', 'lease_until', 'runner', 'decision')
redis.call('ZADD', KEYS[2], job[3], ARGV[1])
log(KEYS[4], 'WARN', why .. ': it waits for another', job[4] or '')
local deadline = start_deadline(KEYS[1])
if deadline then redis.call('ZADD', KEYS[3], deadline, ARGV[1]) end
return 1
