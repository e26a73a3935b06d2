-- Takes the next change of an idle runner's models. The runner is not claimable until
-- end_model_change.lua. A change is taken once: one that ends the process is not repeated.
-- KEYS 1 runner, 2 idle, 3 model changes
-- ARGV 1 runner id, 2 epoch, 3 channel of runner events
-- Returns the change (JSON), or nil if there is none, or if the runner was claimed for a job, which
-- comes first
local runner = redis.call('HMGET', KEYS[1], 'epoch', 'frees')
if runner[1] ~= ARGV[2] or redis.call('EXISTS', KEYS[3]) == 0 then return nil end
if redis.call('SREM', KEYS[2], ARGV[1]) == 0 then return nil end
publish_event(ARGV[3], 'taken', ARGV[1], ARGV[2], ',"frees":' .. (runner[2] or 0))
return redis.call('LPOP', KEYS[3])
