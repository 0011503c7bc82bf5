//! Two members joined by a queue of messages, driven by hand.
