-- Token bucket of an API key: capacity `burst`, refilled at `rate`. Stored is the time at which it
-- is full again; nothing once it is.
-- KEYS 1 bucket
-- ARGV 1 rate (1/s), 2 burst
-- Returns 0 if the submission may pass, otherwise the time until one may (ms)
local now = now_ms()
local one_ms = 1000 / ARGV[1]
local full_at = tonumber(redis.call('GET', KEYS[1]) or now)
-- A bucket that lacks more than `burst` is one of an earlier, lower rate or larger burst: it is
-- replaced by a full one. (1 ms: the rounding below.)
if full_at > now + one_ms * ARGV[2] + 1 then full_at = now end
full_at = math.max(full_at, now) + one_ms
local too_soon_ms = math.floor(full_at - now - one_ms * ARGV[2] + 0.5)
if too_soon_ms > 0 then return too_soon_ms end
redis.call('SET', KEYS[1], string.format('%.3f', full_at), 'PX', math.ceil(full_at - now))
return 0
