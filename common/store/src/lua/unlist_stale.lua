-- Removes entries of the job list that no record confirms: Redis lost it, or a job was submitted
-- anew before its former entries were trimmed.
-- KEYS 1 job list, then the record of each entry
-- ARGV 1 entry, 2 its state, '' for an entry without one, then those of the other entries
-- Returns nothing
for i = 1, #ARGV / 2 do
  local entry, state = ARGV[2 * i - 1], ARGV[2 * i]
  local state_now = redis.call('HGET', KEYS[i + 1], 'state')
  if not state_now or (state ~= '' and state ~= state_now) then redis.call('ZREM', KEYS[1], entry) end
end
