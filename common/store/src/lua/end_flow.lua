-- Ends a flow. Refused unless the version is the one that the caller read.
-- KEYS 1 flow, 2 queued, 3 to 12 see ending_keys()
-- ARGV 1 flow id, 2 version that was read, 3 end state, 4 steps (JSON), 5 output (JSON or ''), 6
--      error (JSON or ''), 7 timings (JSON), 8 retention (s) of a record without one, then level,
--      text, ... for its log
-- Returns 1, or 0: it has ended, is unknown, or another router advanced it
local flow = redis.call('HMGET', KEYS[1], 'state', 'version')
if not flow[1] or TERMINAL[flow[1]] or (flow[2] or '0') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'flow', ARGV[4], 'timings', ARGV[7])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'output', ARGV[5]) end
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[6]) end
redis.call('ZREM', KEYS[2], ARGV[1])
local keys = ending_keys(KEYS[1], 3)
for i = 9, #ARGV, 2 do log(keys.log, ARGV[i], ARGV[i + 1], '') end
end_job(keys, ARGV[1], ARGV[3], now_ms(), ARGV[8])
return 1
