//! Seeded simulation of whole clusters, over the very same control, planner and engine code.
