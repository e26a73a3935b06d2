-- Schedules an evaluation of a flow, whatever events arrive until then.
-- KEYS 1 scheduled flows
-- ARGV 1 flow, 2 maximum time until then (ms)
redis.call('ZADD', KEYS[1], now_ms() + ARGV[2], ARGV[1])
