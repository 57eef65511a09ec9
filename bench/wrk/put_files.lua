-- PUT small files to ever new names: a template completed by a counter.
-- Arguments: file of the template, target with %d for the number.

dofile(debug.getinfo(1, "S").source:sub(2):match("^(.*/)") .. "common.lua")

local template, target
local sent = 0
stored = 0

function init(args) template, target = io.open(args[1]):read("*a"), args[2] end

function request()
  sent = sent + 1
  return wrk.format("PUT", target:format(sent), nil, template .. string.format("%016d", sent))
end
