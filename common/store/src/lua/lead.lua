-- Takes or keeps the leadership of an app.
-- KEYS 1 leader
-- ARGV 1 who, 2 lease (ms), 0 to give it up
-- Returns 1 while `who` leads, else 0
local leader = redis.call('GET', KEYS[1])
if leader and leader ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
