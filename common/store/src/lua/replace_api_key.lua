-- Replaces a key, unless it was revoked: a revoked key must not come back.
-- KEYS 1 keys
-- ARGV 1 id, 2 the key (JSON)
-- Returns 'replaced' | 'unknown': no such key
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 'unknown' end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 'replaced'
