-- Ask the lines of a file in turn: method, target and JSON body, a tab between each.
-- Each @ in a body or target becomes a number that no other request of the run has.
-- Arguments: the file, and optionally the number to begin with.

dofile(debug.getinfo(1, "S").source:sub(2):match("^(.*/)") .. "common.lua")

local asked, prepared, last, serial = {}, {}, 0, 0

function init(args)
  wrk.headers["Content-Type"] = "application/json"
  for _, line in ipairs(lines_of(args[1])) do
    local method, target, body = line:match("^([^\t]*)\t([^\t]*)\t?(.*)$")
    if body == "" then body = nil end
    local place = #asked + 1
    asked[place] = { method, target, body }
    if not line:find("@", 1, true) then prepared[place] = wrk.format(method, target, nil, body) end
  end
  serial = tonumber(args[2] or "0")
end

function request()
  last = last % #asked + 1
  if prepared[last] then return prepared[last] end
  serial = serial + 1
  local method, target, body = unpack(asked[last])
  local number = string.format("%d", serial)
  target = target:gsub("@", number)
  if body then body = body:gsub("@", number) end
  return wrk.format(method, target, nil, body)
end
