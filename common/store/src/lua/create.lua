-- Records a new job, once per id and per idempotency key. Submissions are counted, so that a failed
-- one removes the record only if no other relies on it (withdraw_submission.lua). A key whose job
-- has no record (any more) keeps the id: a message that seemed lost may still arrive.
-- KEYS 1 job, 2 queued, 3 start deadlines, 4 active, 5 tombstone, 6 job list, 7 idempotency key, if
--      the submitter gave one
-- ARGV 1 job id, 2 how many waiting jobs are too many for one more, '' for any number, 3 how long
--      the key is remembered (s), 4 owner, 5 how many of its waiting and running jobs are too many
--      for one more, '' for any number, 6 '1' if a job that ended must not run anew, then field,
--      value, ... of the record
-- Returns {'created', now} | {'known'} | {'another', id of the key's job} | {'full', jobs that
--      wait} | {'busy'}: its owner has too many jobs | {'ended'}: it ended before, and its
--      retention is over
local keys_job = KEYS[7] and redis.call('GET', KEYS[7])
if keys_job and keys_job ~= ARGV[1] then return { 'another', keys_job } end
local known = redis.call('EXISTS', KEYS[1]) == 1
-- A withdrawn submission did not end: it may be repeated.
local ended_as = not known and ARGV[6] == '1' and redis.call('GET', KEYS[5])
if ended_as and ended_as ~= 'withdrawn' then return { 'ended' } end
local waiting = redis.call('ZCARD', KEYS[2])
if not known and ARGV[2] ~= '' and waiting >= tonumber(ARGV[2]) then return { 'full', tostring(waiting) } end
if not known and ARGV[5] ~= '' then
  local active = redis.call('ZLEXCOUNT', KEYS[4], '[' .. ARGV[4] .. ' ', '(' .. ARGV[4] .. '!')
  if active >= tonumber(ARGV[5]) then return { 'busy' } end
end
if KEYS[7] then redis.call('SET', KEYS[7], ARGV[1], 'EX', ARGV[3]) end
redis.call('HINCRBY', KEYS[1], 'submissions', 1)
if known then return { 'known' } end
local now = now_ms()
redis.call('HSET', KEYS[1], 'state', 'queued', 'created_ms', now, unpack(ARGV, 7))
redis.call('DEL', KEYS[5])
list_job(KEYS[1], KEYS[6])
join_active(KEYS[4], KEYS[1], ARGV[1])
-- A flow starts with its first step, which has the deadline.
if redis.call('HEXISTS', KEYS[1], 'flow') == 0 then set_start_deadline(KEYS[1], now) end
enqueue(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
return { 'created', tostring(now) }
