-- PUT small bodies that were never sent before: a template completed by a counter.
-- Arguments: file of SHA-256 in hex (line n is the body with counter n - 1), file of the template,
-- target with %s for the digest.

dofile(debug.getinfo(1, "S").source:sub(2):match("^(.*/)") .. "common.lua")

local digests, template, target
local sent = 0
stored = 0

function init(args)
  digests, template, target = lines_of(args[1]), io.open(args[2]):read("*a"), args[3]
end

function request()
  sent = sent + 1
  if sent > #digests then error("out of prepared bodies") end
  return wrk.format("PUT", target:format(digests[sent]), nil,
                    template .. string.format("%016d", sent - 1))
end
