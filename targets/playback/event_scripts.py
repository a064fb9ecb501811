"""The scripts that the events' server runs, each as one step; `event_stream` calls them.

They know hashes, sets and messages, but nothing of titles, plans or dates: what is to be counted was decided before.
"""

from __future__ import annotations

ADD = """#!lua
if redis.call('XLEN', KEYS[1]) + #ARGV - 1 > tonumber(ARGV[1]) then
  return redis.error_reply('FULL the stream holds all the messages that it may')
end
for i = 2, #ARGV do redis.call('XADD', KEYS[1], '*', 'event', ARGV[i]) end
return #ARGV - 1
"""
"""Append events, all or none: KEYS stream; ARGV the most messages there may be, events."""

APPLY = """#!lua flags=allow-oom
local stream, dead, due, totals = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, step = ARGV[1], cjson.decode(ARGV[2])

for _, one in ipairs(step.unchanged) do
  if redis.call('GET', one[1]) ~= one[2] then return 0 end
end
for _, one in ipairs(step.bits) do
  if redis.call('GETBIT', one[1], one[2]) == 1 then return 0 end
end

for _, one in ipairs(step.bits) do
  redis.call('SETBIT', one[1], one[2], 1)
  redis.call('EXPIRE', one[1], step.remember_s)
end
for _, one in ipairs(step.texts) do redis.call('SET', one[1], one[2], 'EX', step.viewing_s) end
for _, one in ipairs(step.counts) do redis.call('HINCRBY', one[1], one[2], one[3]) end
for _, one in ipairs(step.scores) do
  redis.call('ZINCRBY', one[1], one[3], one[2])
  if redis.call('ZCARD', one[1]) > step.scores_max then
    redis.call('ZREMRANGEBYRANK', one[1], 0, math.floor(step.scores_max / 2) - 1)
  end
end
local version = redis.call('INCR', 'version')
for _, one in ipairs(step.due) do redis.call('HSET', due, one[1], version .. ' ' .. one[2]) end

local function acknowledge(message)
  redis.call('XDEL', stream, message)
  return redis.call('XACK', stream, group, message)
end
for _, message in ipairs(step.counted) do acknowledge(message) end
redis.call('HINCRBY', totals, 'counted', #step.counted)
for _, message in ipairs(step.duplicates) do
  redis.call('HINCRBY', totals, 'duplicates', acknowledge(message))
end
for i = 3, #ARGV, 3 do
  if acknowledge(ARGV[i]) == 1 then
    redis.call('XADD', dead, 'MAXLEN', step.dead_max, '*', 'event', ARGV[i + 1], 'reason', ARGV[i + 2])
    redis.call('HINCRBY', totals, 'dead_letters', 1)
  end
end
return version
"""
"""Do a step, or nothing and return 0: KEYS stream, dead letters, rows due, totals; ARGV group, step as JSON, then
message, bytes and reason of each dead letter. It may use memory beyond the limit: a full server must be worked off."""

SETTLE = """#!lua flags=allow-oom
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return 1
"""
"""Take rows off the list of those due, whose mark is still the same: KEYS rows due; ARGV row, mark, row, mark..."""

LEASE = """#!lua
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
"""Take or keep a lease: KEYS lease; ARGV holder, milliseconds."""
