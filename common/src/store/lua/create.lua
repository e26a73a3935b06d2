-- Records a new job, once: under the same id, or the same idempotency key, it is the same job again. Each submission of it
-- is counted, so that one which fails takes back the record only if no other relies on it (discard.lua).
-- A key whose job has no record (any more) keeps its id: a message that was thought lost may still bring that job.
-- KEYS 1 job, 2 queued, 3 start deadlines, 4 active, 5 idempotency key, if the submitter gave one
-- ARGV 1 job id, 2 how many waiting jobs are too many for one more, '' for any number, 3 how long the key is remembered (s),
--      4 owner, 5 how many of its waiting and running jobs are too many for one more, '' for any number,
--      then field, value, ... of the record
-- Returns {'created', now} | {'known'} | {'another', id of the key's job} | {'full', jobs that wait} | {'busy'}: its owner has
--      too many jobs
local keys_job = KEYS[5] and redis.call('GET', KEYS[5])
if keys_job and keys_job ~= ARGV[1] then return { 'another', keys_job } end
local known = redis.call('EXISTS', KEYS[1]) == 1
local waiting = redis.call('ZCARD', KEYS[2])
if not known and ARGV[2] ~= '' and waiting >= tonumber(ARGV[2]) then return { 'full', tostring(waiting) } end
if not known and ARGV[5] ~= '' then
  local active = tonumber(redis.call('HGET', KEYS[4], ARGV[4]) or 0)
  if active >= tonumber(ARGV[5]) then return { 'busy' } end
end
if KEYS[5] then redis.call('SET', KEYS[5], ARGV[1], 'EX', ARGV[3]) end
redis.call('HINCRBY', KEYS[1], 'submissions', 1)
if known then return { 'known' } end
local now = now_ms()
redis.call('HSET', KEYS[1], 'state', 'queued', 'created_ms', now, unpack(ARGV, 6))
count_active(KEYS[4], KEYS[1], 1)
redis.call('ZADD', KEYS[2], now, ARGV[1])
-- A flow starts with its first step, which has the deadline.
local deadline = redis.call('HEXISTS', KEYS[1], 'flow') == 0 and start_deadline(KEYS[1])
if deadline then redis.call('ZADD', KEYS[3], deadline, ARGV[1]) end
return { 'created', tostring(now) }
