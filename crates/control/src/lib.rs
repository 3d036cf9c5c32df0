//! The operator: `tick(now, inputs) -> effects`; it decides everything and does nothing.
