-- The same as put.lua in the two requests that the OCI protocol needs: POST opens an upload, whose
-- address any connection may then PUT to. Only finished blobs are counted.

dofile(debug.getinfo(1, "S").source:sub(2):match("^(.*/)") .. "common.lua")

local digests, template, target
local waiting, first, last = {}, 1, 0
local sent = 0
stored = 0

function init(args)
  digests, template, target = lines_of(args[1]), io.open(args[2]):read("*a"), args[3]
end

function request()
  if first > last then return wrk.format("POST", target, nil, "") end
  local location = waiting[first]
  waiting[first], first = nil, first + 1
  sent = sent + 1
  if sent > #digests then error("out of prepared bodies") end
  return wrk.format("PUT", location .. "&digest=sha256:" .. digests[sent], nil,
                    template .. string.format("%016d", sent - 1))
end

function response(status, headers)
  if status == 202 then
    last = last + 1
    waiting[last] = headers["Location"]:gsub("^https?://[^/]+", "")
  elseif status == 201 then
    stored = stored + 1
  end
end
