-- Ends an attempt: stores the result and the runner's models, and frees the runner, in one step.
-- The result of an earlier attempt is refused by its fence; the runner's models are stored all the
-- same.
-- KEYS 1 job, 2 runner, 3 idle, 4 blank, 5 to 14 see ending_keys(), then the hint sets to leave,
--      then those to join
-- ARGV 1 job id, 2 runner id, 3 epoch, 4 fence, 5 end state, 6 output (JSON or ''), 7 error (JSON
--      or ''), 8 timings (JSON), 9 retention (s) of a record without one, 10 number of hints,
--      11 '1' to become idle, 12 channel of runner events, 13 number of hint sets to leave,
--      14 what ran (JSON or ''), 15 level and 16 text of the log's last line, 17 number of
--      pictures, then field, value, ... of the runner
-- Returns 'refused' | 'accepted' | 'accepted, with reply address': its submitter expects a reply
local reply = 'refused'
local job = redis.call('HMGET', KEYS[1], 'state', 'fence')
if job[1] == 'running' and job[2] == ARGV[4] then
  reply = redis.call('HEXISTS', KEYS[1], 'reply_to') == 1 and 'accepted, with reply address' or 'accepted'
  redis.call('HSET', KEYS[1], 'timings', ARGV[8])
  if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'output', ARGV[6]) end
  if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[7]) end
  if ARGV[17] ~= '0' then redis.call('HSET', KEYS[1], 'pictures', ARGV[17]) end
  local keys = ending_keys(KEYS[1], 5)
  log(keys.log, ARGV[15], ARGV[16], ARGV[2])
  end_job(keys, ARGV[1], ARGV[5], now_ms(), ARGV[9])
end
local runner = redis.call('HMGET', KEYS[2], 'epoch', 'job', 'draining')
if runner[1] == ARGV[3] then
  update_hint_sets(15, tonumber(ARGV[13]), ARGV[2])
  redis.call(ARGV[10] == '0' and 'SADD' or 'SREM', KEYS[4], ARGV[2])
  redis.call('HSET', KEYS[2], unpack(ARGV, 18))
  -- Not for a repeated call (its response was lost) if the runner was claimed for another job
  -- meanwhile.
  if ARGV[11] == '1' and (not runner[2] or runner[2] == ARGV[1]) then
    set_idle(KEYS[3], KEYS[2], ARGV[12], ARGV[2], runner[3], ARGV[14])
  end
end
return reply
