-- Stores the progress of a running job. The log receives each new phase, and each quarter of the
-- steps. A preview remains until the next one, so that each is sent once.
-- KEYS 1 job, 2 log
-- ARGV 1 fence, 2 progress (JSON)
-- Returns 1, or 0 if the job is no longer this attempt's
local job = redis.call('HMGET', KEYS[1], 'state', 'fence', 'progress', 'runner')
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return 0 end
local now, before = cjson.decode(ARGV[2]), cjson.decode(job[3] or '{}')
local noted = ARGV[2]
if before.preview and not now.preview then
  now.preview = before.preview
  noted = cjson.encode(now)
end
redis.call('HSET', KEYS[1], 'progress', noted)
local function quarter(progress) return math.floor(4 * progress.step / math.max(progress.steps, 1)) end
if now.phase ~= before.phase or quarter(now) ~= quarter(before) then
  local line = now.phase
  if now.steps > 0 and now.phase == 'loading' then
    line = line .. ': ' .. math.floor(100 * now.step / now.steps) .. ' %'
  elseif now.steps > 0 then
    line = line .. ': step ' .. now.step .. ' of ' .. now.steps
  end
  log(KEYS[2], 'INFO', line, job[4] or '')
end
return 1
