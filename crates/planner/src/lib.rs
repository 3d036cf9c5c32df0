//! Placement and rebalancing: one call, one plan, whatever happened.
