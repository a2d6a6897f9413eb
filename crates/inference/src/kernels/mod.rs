//! Arithmetic over slices of numbers, as fast as the processor allows and with the same bits on every processor. Knows
//! no model.

pub mod dense;
pub mod int8;
pub mod rows;
