-- Forgets a key; but not the last admin's while there are others, which nobody could revoke then.
-- KEYS 1 keys
-- ARGV 1 id, 2 '1' if there is an admin by setting
-- Returns 'revoked' | 'unknown' | 'locked': nobody may administer the others
local key = redis.call('HGET', KEYS[1], ARGV[1])
if not key then return 'unknown' end
local is_needed = ARGV[2] ~= '1' and is_admin(key) and redis.call('HLEN', KEYS[1]) > 1
if is_needed and not has_other_admin(KEYS[1], ARGV[1]) then return 'locked' end
redis.call('HDEL', KEYS[1], ARGV[1])
return 'revoked'
