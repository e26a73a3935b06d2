-- Records a new job, once: under the same id, or the same idempotency key, it is the same job again. Each submission of it
-- is counted, so that one which fails takes back the record only if no other relies on it (discard.lua).
-- A key whose job has no record (any more) keeps its id: a message that was thought lost may still bring that job.
-- KEYS 1 job, 2 queued, 3 start deadlines, 4 idempotency key, if the submitter gave one
-- ARGV 1 job id, 2 how many waiting jobs are too many for one more, '' for any number, 3 how long the key is remembered (s),
--      then field, value, ... of the record
-- Returns {'created', now} | {'known'} | {'another', id of the key's job} | {'full', jobs that wait}
local owner = KEYS[4] and redis.call('GET', KEYS[4])
if owner and owner ~= ARGV[1] then return { 'another', owner } end
local known = redis.call('EXISTS', KEYS[1]) == 1
local waiting = redis.call('ZCARD', KEYS[2])
if not known and ARGV[2] ~= '' and waiting >= tonumber(ARGV[2]) then return { 'full', tostring(waiting) } end
if KEYS[4] then redis.call('SET', KEYS[4], ARGV[1], 'EX', ARGV[3]) end
redis.call('HINCRBY', KEYS[1], 'submissions', 1)
if known then return { 'known' } end
local now = now_ms()
redis.call('HSET', KEYS[1], 'state', 'queued', 'created_ms', now, unpack(ARGV, 4))
redis.call('ZADD', KEYS[2], now, ARGV[1])
local deadline = start_deadline(KEYS[1])
if deadline then redis.call('ZADD', KEYS[3], deadline, ARGV[1]) end
return { 'created', tostring(now) }
