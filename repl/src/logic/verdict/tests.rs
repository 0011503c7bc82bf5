//! What the verdict promises, over all small pairs of records.
