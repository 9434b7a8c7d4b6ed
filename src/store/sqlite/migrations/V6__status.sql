-- Indexes from which `status` counts without reading rows.

-- State and cause go with what is due, so that one walk tells what waits and why; nothing is written more often for it.
DROP INDEX recipient_due;
CREATE INDEX recipient_due ON recipient (domain, next_attempt, arrived, state, cause) WHERE state <= 1;
-- Rare: what an operator, or damage, put aside.
CREATE INDEX recipient_held ON recipient (cause, arrived) WHERE state = 3;
CREATE INDEX report_state ON report (state, day);
CREATE INDEX report_destination_failed ON report_destination (report) WHERE state = 3;
