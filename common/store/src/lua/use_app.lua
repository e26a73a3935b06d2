-- Records that an owner submits to an app, and returns the apps that it uses.
-- KEYS 1 apps of the owner
-- ARGV 1 app
-- Returns app, age of its last submission (ms), ...
local now = now_ms()
redis.call('ZADD', KEYS[1], now, ARGV[1])
local apps = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 2, #apps, 2 do apps[i] = tostring(now - number(apps[i])) end
return apps
