-- Records a new job, once.
-- KEYS 1 job, 2 queued, 3 start deadlines
-- ARGV 1 job id, then field, value, ... of the record
-- Returns {'created', now} | {'exists', created_ms}
local created = redis.call('HGET', KEYS[1], 'created_ms')
if created then return { 'exists', created } end
local now = now_ms()
redis.call('HSET', KEYS[1], 'state', 'queued', 'created_ms', now, unpack(ARGV, 2))
redis.call('ZADD', KEYS[2], now, ARGV[1])
local deadline = start_deadline(KEYS[1])
if deadline then redis.call('ZADD', KEYS[3], deadline, ARGV[1]) end
return { 'created', tostring(now) }
