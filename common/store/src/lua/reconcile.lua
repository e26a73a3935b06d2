-- Decides whether a job's message is to be published again: nothing was heard of the job for a while, and no queue can
-- hold it.
-- KEYS 1 job, 2 queued, 3 lost runner jobs
-- ARGV 1 job id, 2 how long nothing must have been heard (ms), 3 and 4 until when (Unix ms) all messages of the normal and of the
--      low lane have come by, 5 '1' if the shared queue is empty
-- Returns 1 if so, and then not again before as much time has passed; else 0
local now, quiet = now_ms(), number(ARGV[2])
local job = redis.call('HMGET', KEYS[1], 'state', 'runner', 'created_ms', 'dispatched_ms', 'lease_until', 'reconciled_ms',
  'parked_until', 'priority')
local state, lease_until = job[1], number(job[5])
if not state or TERMINAL[state] then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  return 0
end
-- Another runner has it: should that one be lost, the job is suspected again.
if state == 'running' and lease_until > now then
  redis.call('ZREM', KEYS[3], ARGV[1])
  return 0
end
local heard = math.max(number(job[3]), number(job[4]), lease_until, number(job[6]), number(job[7]))
if heard + quiet > now then return 0 end
if state == 'dispatched' and not job[2] then
  -- In the shared queue, nobody sees what comes by; one that never empties must not hide a loss.
  if ARGV[5] ~= '1' and heard + 10 * quiet > now then return 0 end
else
  -- Lanes are first in, first out: what was sent long before the newest job that came by has come by, or is lost. What had a
  -- runner comes back by the normal lane.
  local passed = number(ARGV[3])
  if job[8] == 'low' then passed = math.min(passed, number(ARGV[4])) end
  if heard + quiet > passed then return 0 end
end
redis.call('HSET', KEYS[1], 'reconciled_ms', now)
return 1
