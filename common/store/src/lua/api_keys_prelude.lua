-- Prepended to the scripts about API keys. Keys are JSON in the format of access::StoredKey.

local function is_admin(key)
  local readable, read = pcall(cjson.decode, key)
  if not readable then return false end
  for _, scope in ipairs(read.scopes or {}) do
    if scope == 'admin' then return true end
  end
  return false
end

-- Whether a key other than `id` has scope admin.
local function has_other_admin(keys_key, id)
  local all = redis.call('HGETALL', keys_key)
  for i = 1, #all, 2 do
    if all[i] ~= id and is_admin(all[i + 1]) then return true end
  end
  return false
end
