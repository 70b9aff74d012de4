-- What the clock showed when somebody last looked, so that one that was set back while nobody did is seen at the next start.
ALTER TABLE gateway ADD COLUMN seen_at INTEGER;
