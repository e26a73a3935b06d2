-- Removes apps in which an owner has no jobs, unless it submitted there recently: that job may not
-- be recorded yet.
-- KEYS 1 apps of the owner
-- ARGV 1 minimum age of its last submission (ms), then apps
local before = now_ms() - ARGV[1]
for i = 2, #ARGV do
  local last = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if last and number(last) < before then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
