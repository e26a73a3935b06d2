-- Removes ended jobs from the job list once their records are gone.
-- KEYS 1 job list, 2 its trims, then the records of the jobs
-- ARGV 1 the first job's member of the trims, then those of the others, as trim_member() makes them
-- Returns nothing
for i, member in ipairs(ARGV) do
  local job, app, state, owner, hint = member:match('^(%S+) (%S+) (%S+) (%S*) (.*)$')
  local state_now = redis.call('HGET', KEYS[i + 2], 'state')
  if state_now == state then
    -- The record is about to expire.
    redis.call('ZADD', KEYS[2], now_ms() + 1000, member)
  elseif state_now then
    -- The job was submitted anew under its id.
    redis.call('ZREM', KEYS[1], state_entries(app, job, state))
    redis.call('ZREM', KEYS[2], member)
  else
    redis.call('ZREM', KEYS[1], unpack(list_entries(app, job, state, owner, hint)))
    redis.call('ZREM', KEYS[2], member)
  end
end
