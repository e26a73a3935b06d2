-- Sets the reply address of a job that was submitted again, whether or not a reply was sent before.
-- KEYS 1 job, 2 its later reply address, 3 the address of the sent reply
-- ARGV 1 address (JSON), 2 lifetime (s)
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
redis.call('DEL', KEYS[3])
-- Read when the job ends; see finish.lua.
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'reply_to', ARGV[1]) end
