-- Reserves an attempt at a job's webhook: events may repeat, and messages may be delivered twice.
-- Attempts are counted per end of the job; a redriven job gets another end.
-- KEYS 1 webhook, 2 job
-- ARGV 1 attempt, 2 end of the job (Unix ms), 3 duration of the reservation (ms)
-- Returns {'go'} | {'wait', ms} | {'over'}: this attempt was made, or the job has another end by
--      now
local ended = redis.call('HGET', KEYS[2], 'finished_ms')
if ended ~= ARGV[2] then return { 'over' } end
local known = redis.call('HMGET', KEYS[1], 'end', 'made', 'not_before')
if known[1] ~= ended then known = {} end
if number(known[2]) >= tonumber(ARGV[1]) then return { 'over' } end
local now = now_ms()
local not_before = number(known[3])
if not_before > now then return { 'wait', tostring(not_before - now) } end
redis.call('HSET', KEYS[1], 'end', ended, 'made', known[2] or 0, 'not_before', now + ARGV[3])
-- As long as the record.
local left = redis.call('PTTL', KEYS[2])
if left > 0 then redis.call('PEXPIRE', KEYS[1], left) end
return { 'go' }
