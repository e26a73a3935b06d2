-- Revokes a key, except the last one with scope admin while others exist, which could not be
-- revoked then.
-- KEYS 1 keys
-- ARGV 1 id, 2 '1' if an admin key is configured
-- Returns 'revoked' | 'unknown' | 'locked': no other key has scope admin
local key = redis.call('HGET', KEYS[1], ARGV[1])
if not key then return 'unknown' end
local is_needed = ARGV[2] ~= '1' and is_admin(key) and redis.call('HLEN', KEYS[1]) > 1
if is_needed and not has_other_admin(KEYS[1], ARGV[1]) then return 'locked' end
redis.call('HDEL', KEYS[1], ARGV[1])
return 'revoked'
