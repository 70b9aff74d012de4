-- tried: whether what a lane does next was tried before, so that claims find such lanes apart from the others; null where
-- there is nothing to do.
ALTER TABLE lane ADD COLUMN tried INTEGER;
UPDATE lane SET tried = coalesce((SELECT state = 1 FROM outbox WHERE outbox.lane = lane.id AND state <= 2 ORDER BY seq LIMIT 1), 1)
WHERE due_at IS NOT NULL;
DROP INDEX lane_due;
CREATE INDEX lane_due ON lane (channel, tried, due_at) WHERE due_at IS NOT NULL;

-- channel: that of the session's first waiting turn, so that the channels take turns; null where none waits.
ALTER TABLE session ADD COLUMN channel INTEGER;
UPDATE session SET channel = (SELECT channel FROM inbox WHERE inbox.session = session.id AND state = 0 ORDER BY seq LIMIT 1)
WHERE due_at IS NOT NULL;
DROP INDEX session_due;
CREATE INDEX session_due ON session (channel, due_at) WHERE due_at IS NOT NULL;
