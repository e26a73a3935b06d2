-- Lets one more pass if that is within its key's rate: a bucket of `burst`, filled again at `rate`. Of it is kept when it will
-- be full again, and nothing once it is.
-- KEYS 1 bucket
-- ARGV 1 rate (1/s), 2 burst
-- Returns 0 if it may pass, else after how long one may (ms)
local now = now_ms()
local one_ms = 1000 / ARGV[1]
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + one_ms
local too_soon_ms = math.floor(full_at - now - one_ms * ARGV[2] + 0.5)
if too_soon_ms > 0 then return too_soon_ms end
redis.call('SET', KEYS[1], string.format('%.3f', full_at), 'PX', math.ceil(full_at - now))
return 0
