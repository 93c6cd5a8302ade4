-- Appends a question to the stream of all, from which the oldest go when there are too many. When the time of the last one's answer is
-- over, all of them go.
--
-- KEYS: the stream. ARGV: the question, for how many milliseconds its answer is kept, how many questions there may be.

redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[3], '*', 'q', ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
