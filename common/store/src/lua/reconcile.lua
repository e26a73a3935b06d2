-- Decides whether a job's message must be published again: the job shows no activity, and no queue
-- can contain it.
-- KEYS 1 job, 2 queued, 3 lost runner jobs
-- ARGV 1 job id, 2 minimum time without activity (ms), 3 and 4 publish time (Unix ms) up to which
--      all messages of the normal and of the low lane were delivered, 5 '1' if the shared queue is
--      empty, then lane, owner ('' for none) and the same time of each overflow queue
-- Returns 1 if so, and then not again within that time; otherwise 0
local now, quiet = now_ms(), number(ARGV[2])
local job = redis.call('HMGET', KEYS[1], 'state', 'runner', 'created_ms', 'dispatched_ms', 'lease_until', 'reconciled_ms',
  'parked_until', 'priority', 'owner')
local state, lease_until = job[1], number(job[5])
if not state or TERMINAL[state] then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  return 0
end
-- Another runner has it: if that one is lost, the job is listed again.
if state == 'running' and lease_until > now then
  redis.call('ZREM', KEYS[3], ARGV[1])
  return 0
end
local active = math.max(number(job[3]), number(job[4]), lease_until, number(job[6]), number(job[7]))
if active + quiet > now then return 0 end
if state == 'dispatched' and not job[2] then
  -- Deliveries from the shared queue are not observed; one that never empties must not hide a loss.
  if ARGV[5] ~= '1' and active + 10 * quiet > now then return 0 end
else
  -- Lanes are first in, first out: a message published long before the newest delivered one was
  -- delivered, or is lost. Jobs that had a runner return by the normal lane.
  local passed = number(ARGV[3])
  if job[8] == 'low' then passed = math.min(passed, number(ARGV[4])) end
  -- What a lane delivered may have moved to the overflow queue of its owner.
  for n = 6, #ARGV, 3 do
    local lane, owner = ARGV[n], ARGV[n + 1]
    if owner == (job[9] or '') and (lane == 'normal' or lane == job[8]) then
      passed = math.min(passed, number(ARGV[n + 2]))
    end
  end
  if active + quiet > passed then return 0 end
end
redis.call('HSET', KEYS[1], 'reconciled_ms', now)
return 1
