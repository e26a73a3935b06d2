-- Stores the next version of a flow: the step that ended, the step that began. Refused unless the
-- version is the one that the caller read.
-- KEYS 1 flow, 2 queued, 3 log, 4 job list
-- ARGV 1 flow id, 2 version that was read, 3 state, 4 steps (JSON), 5 outputs (JSON), then level,
--      text, ... for its log
-- Returns 1, or 0: it has ended, is unknown, or another router advanced it
local flow = redis.call('HMGET', KEYS[1], 'state', 'version')
if not flow[1] or TERMINAL[flow[1]] or (flow[2] or '0') ~= ARGV[2] then return 0 end
-- A running flow is not dispatched again: states go forward only.
if flow[1] == 'queued' then redis.call('HSET', KEYS[1], 'dispatched_ms', now_ms()) end
set_state(KEYS[1], KEYS[4], flow[1] == 'running' and flow[1] or ARGV[3])
redis.call('HSET', KEYS[1], 'flow', ARGV[4], 'outputs', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('ZREM', KEYS[2], ARGV[1])
for i = 6, #ARGV, 2 do log(KEYS[3], ARGV[i], ARGV[i + 1], '') end
return 1
