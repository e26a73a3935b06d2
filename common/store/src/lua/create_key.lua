-- Keeps a new key. The first one must be an admin's: with it routers begin to ask, and nobody could make a second.
-- KEYS 1 keys
-- ARGV 1 id, 2 the key (JSON), 3 '1' if there is an admin by setting
-- Returns 'created' | 'taken': there is a key of that id | 'locked': nobody may administer
if ARGV[3] ~= '1' and not is_admin(ARGV[2]) and not has_other_admin(KEYS[1], ARGV[1]) then return 'locked' end
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 'taken' end
return 'created'
