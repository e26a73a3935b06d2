-- Records that a running job's runner is lost: its lease lapsed. The attempt counts, and the next
-- one is delayed.
-- KEYS 1 job, 2 queued, 3 start deadlines, 4 log, 5 job list, 6 lost runner jobs
-- ARGV 1 job id, then the delays after the first attempt, the second, ... (ms)
-- Returns {'lost', attempt, runner, delay (ms), or '' after the last attempt} | {'kept'} if its
--      runner is not lost
local job = redis.call('HMGET', KEYS[1], 'state', 'lease_until', 'attempt', 'runner', 'lost_runners')
local now = now_ms()
if job[1] ~= 'running' then
  -- A waiting job is reconciled by its position in the queue; an ended one needs nothing.
  redis.call('ZREM', KEYS[6], ARGV[1])
  return { 'kept' }
end
if number(job[2]) > now then return { 'kept' } end
local readable, lost = pcall(cjson.decode, job[5] or '[]')
if not readable or type(lost) ~= 'table' then lost = {} end
lost[#lost + 1] = job[4]
local pause_ms = park(KEYS[1], now, 2)
set_state(KEYS[1], KEYS[5], 'queued')
redis.call('HSET', KEYS[1], 'lost_runners', cjson.encode(lost), 'reconciled_ms', now)
clear_attempt(KEYS[1])
enqueue(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
log(KEYS[4], 'WARN', 'requeued: the runner was lost', job[4] or '')
return { 'lost', job[3] or '0', job[4] or '', tostring(pause_ms or '') }
