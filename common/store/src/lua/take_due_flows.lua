-- Takes the flows whose evaluation is due, and schedules each again, in case the router that
-- took it crashes.
-- KEYS 1 scheduled flows
-- ARGV 1 time until they are due again (ms), 2 maximum number
-- Returns the flows
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
for _, flow in ipairs(due) do redis.call('ZADD', KEYS[1], now + ARGV[1], flow) end
return due
