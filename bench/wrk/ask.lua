-- Ask the lines of a file in turn: method, target and JSON body, a tab between each.
-- Each @ in a body or target becomes a number that no other request of the run has.
-- Arguments: the file, and optionally a value of Cache-Control.

dofile(debug.getinfo(1, "S").source:sub(2):match("^(.*/)") .. "common.lua")

local asked, prepared, last, serial = {}, {}, 0, 0

function formatted(method, target, body)
  local headers = {}
  for name, value in pairs(wrk.headers) do headers[name] = value end
  if body then headers["Content-Type"] = "application/json" end
  return wrk.format(method, target, headers, body)
end

function init(args)
  wrk.headers["Cache-Control"] = args[2]
  for _, line in ipairs(lines_of(args[1])) do
    local method, target, body = line:match("^([^\t]*)\t([^\t]*)\t?(.*)$")
    if body == "" then body = nil end
    local place = #asked + 1
    asked[place] = { method, target, body }
    if not line:find("@", 1, true) then prepared[place] = formatted(method, target, body) end
  end
end

function request()
  last = last % #asked + 1
  if prepared[last] then return prepared[last] end
  serial = serial + 1
  local method, target, body = unpack(asked[last])
  local number = string.format("%d", serial)
  target = target:gsub("@", number)
  if body then body = body:gsub("@", number) end
  return formatted(method, target, body)
end
