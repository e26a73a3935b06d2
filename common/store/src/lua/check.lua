-- Performs each kind of command that the other scripts need: writes, reads, publishes.
-- KEYS 1 a key of its own
-- ARGV 1 what is published, 2 the channel
redis.call('SET', KEYS[1], ARGV[1], 'PX', 10000)
redis.call('GET', KEYS[1])
redis.call('PUBLISH', ARGV[2], ARGV[1])
