-- GET the targets of a file in turn. Each line is a target, or a target, a tab and a Range value.
-- Arguments: the file, and optionally the milliseconds to wait before each request, and the value
-- of Authorization.

dofile(debug.getinfo(1, "S").source:sub(2):match("^(.*/)") .. "common.lua")

local prepared, last, wait = {}, 0, 0

function init(args)
  for _, line in ipairs(lines_of(args[1])) do
    local target, range = line:match("^([^\t]*)\t?(.*)$")
    local headers = {}
    if range ~= "" then headers["Range"] = range end
    if (args[3] or "") ~= "" then headers["Authorization"] = args[3] end
    prepared[#prepared + 1] = wrk.format("GET", target, headers)
  end
  wait = tonumber(args[2] or "0")
  if wait > 0 then delay = function() return wait end end
end

function request()
  last = last % #prepared + 1
  return prepared[last]
end
