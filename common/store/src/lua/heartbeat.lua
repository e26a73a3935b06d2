-- Renews a runner's lease. An idle runner whose claim lapsed becomes claimable again.
-- KEYS 1 runner, 2 idle, 3 runners, 4 leader, 5 policy of the leader, 6 model changes,
--      7 drain request
-- ARGV 1 runner id, 2 epoch, 3 lease (ms), 4 '1' while it runs a job, 5 channel of runner events
-- Returns {who consumes the shared queue: 'leader' | 'runners', 1 if changes of its models are
--      queued, 1 if it drains}, or {'unregistered', 0, 0}
local now = now_ms()
local runner = redis.call('HMGET', KEYS[1], 'epoch', 'claimed_until', 'draining')
if runner[1] ~= ARGV[2] then return { 'unregistered', 0, 0 } end
redis.call('ZADD', KEYS[3], now + ARGV[3], ARGV[1])
if ARGV[4] == '0' and number(runner[2]) <= now then
  set_idle(KEYS[2], KEYS[1], ARGV[5], ARGV[1], runner[3], '')
end
if runner[3] then redis.call('EXPIRE', KEYS[7], DRAIN_REQUEST_S) end
-- A leader with policy warm consumes it while it leads.
local by_leader = redis.call('EXISTS', KEYS[4]) == 1 and redis.call('GET', KEYS[5]) == 'warm'
return { by_leader and 'leader' or 'runners', redis.call('EXISTS', KEYS[6]), number(runner[3]) }
