-- Forgets an app, unless it is in use.
-- KEYS 1 apps, 2 unused apps, 3 schema, 4 stats, 5 models, 6 policy of the leader, 7 history, then
--      the keys of which at least one exists while the app is in use
-- ARGV 1 app
-- Returns 1, or 0: it is in use
for n = 8, #KEYS do
  if redis.call('EXISTS', KEYS[n]) == 1 then
    redis.call('ZREM', KEYS[2], ARGV[1])
    return 0
  end
end
redis.call('SREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7])
return 1
