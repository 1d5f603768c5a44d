SELECT count(*) FROM t -- all
WHERE a > 1
