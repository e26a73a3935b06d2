-- Decides whether a job's message is to be published again: nothing was heard of the job for a while, and no queue can
-- hold it.
-- KEYS 1 job, 2 queued, 3 suspects
-- ARGV 1 job id, 2 how long nothing must have been heard (ms), 3 '1' if the backlog is empty, 4 '1' if the shared queue is
-- Returns 1 if so, and then not again before as much time has passed; else 0
local now = now_ms()
local job = redis.call('HMGET', KEYS[1], 'state', 'runner', 'created_ms', 'dispatched_ms', 'lease_until', 'reconciled_ms')
local state, runner = job[1], job[2]
local lease_until = tonumber(job[5] or 0)
if not state or TERMINAL[state] then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  return 0
end
-- Somebody else runs it: should that runner be lost, the job is suspected again.
if state == 'running' and lease_until > now then
  redis.call('ZREM', KEYS[3], ARGV[1])
  return 0
end
local heard = math.max(tonumber(job[3] or 0), tonumber(job[4] or 0), lease_until, tonumber(job[6] or 0))
if heard + ARGV[2] > now then return 0 end
-- A backlog that never empties must not hide a loss: its oldest jobs are in the dispatcher's hands, so one that is not, for
-- so long, is somewhere else or nowhere.
if state == 'queued' and ARGV[3] ~= '1' and heard + 10 * ARGV[2] > now then return 0 end
if state == 'dispatched' and not runner and ARGV[4] ~= '1' then return 0 end
redis.call('HSET', KEYS[1], 'reconciled_ms', now)
return 1
