-- Creates a key. The first one must have scope admin: routers require keys from then on, and
-- without an admin no second one could be created.
-- KEYS 1 keys
-- ARGV 1 id, 2 the key (JSON), 3 '1' if an admin key is configured
-- Returns 'created' | 'taken': the id exists | 'locked': no key has scope admin
if ARGV[3] ~= '1' and not is_admin(ARGV[2]) and not has_other_admin(KEYS[1], ARGV[1]) then return 'locked' end
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 'taken' end
return 'created'
