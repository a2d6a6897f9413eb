//! Stories of streams: seeded scenarios against a recomputation over all events, restarts, limits, damaged states.

mod damage;
mod limits;
mod naive;
mod scenario;
mod stories;
