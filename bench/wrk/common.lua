-- What every script shares: read lines of a file, and report one line of JSON at the end.

function lines_of(path)
  local lines = {}
  for line in io.lines(path) do lines[#lines + 1] = line end
  return lines
end

local threads = {}

function setup(thread) threads[#threads + 1] = thread end

function done(summary, latency, requests)
  local errors = summary.errors
  local failures = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local stored = 0
  for _, thread in ipairs(threads) do stored = stored + (tonumber(thread:get("stored")) or 0) end
  print(string.format(
    '{"requests":%d,"seconds":%.6f,"failures":%d,"p50_us":%.1f,"p99_us":%.1f,"stored":%d}',
    summary.requests, summary.duration / 1e6, failures,
    latency:percentile(50), latency:percentile(99), stored))
end
