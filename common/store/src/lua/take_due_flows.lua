-- Takes the flows that are to be looked at by now, and has each looked at again, in case that whoever took it dies.
-- KEYS 1 watched flows
-- ARGV 1 after how long they are due again (ms), 2 how many at most
-- Returns the flows
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
for _, flow in ipairs(due) do redis.call('ZADD', KEYS[1], now + ARGV[1], flow) end
return due
