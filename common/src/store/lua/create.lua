-- Records a new job, once.
-- KEYS 1 job, 2 queued
-- ARGV 1 job id, then field, value, ... of the record
-- Returns {'created', now} | {'exists', created_ms}
local created = redis.call('HGET', KEYS[1], 'created_ms')
if created then return { 'exists', created } end
local now = now_ms()
redis.call('HSET', KEYS[1], 'state', 'queued', 'created_ms', now, unpack(ARGV, 2))
redis.call('ZADD', KEYS[2], now, ARGV[1])
return { 'created', tostring(now) }
