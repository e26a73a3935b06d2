-- Appends a line to the log of an active job.
-- KEYS 1 job, 2 log
-- ARGV 1 level, 2 line
-- Returns nothing; a job without record gets no line.
if redis.call('EXISTS', KEYS[1]) == 1 then log(KEYS[2], ARGV[1], ARGV[2], '') end
