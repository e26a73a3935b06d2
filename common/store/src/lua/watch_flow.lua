-- Has a flow looked at after some time, whatever is heard of it until then.
-- KEYS 1 watched flows
-- ARGV 1 flow, 2 after how long at the latest (ms)
redis.call('ZADD', KEYS[1], now_ms() + ARGV[2], ARGV[1])
