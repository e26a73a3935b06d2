-- Takes, renews or releases the leadership of apps.
-- KEYS 1 the leader of the first app, then those of the others
-- ARGV 1 lease (ms), 0 to release it, then the candidate for each app
-- Returns for each app 1 if its candidate leads, else 0
local leaders, leads = redis.call('MGET', unpack(KEYS)), {}
for i, key in ipairs(KEYS) do
  local candidate = ARGV[i + 1]
  if leaders[i] and leaders[i] ~= candidate then
    leads[i] = 0
  elseif ARGV[1] == '0' then
    redis.call('DEL', key)
    leads[i] = 0
  else
    redis.call('SET', key, candidate, 'PX', ARGV[1])
    leads[i] = 1
  end
end
return leads
