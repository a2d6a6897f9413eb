//! Inner loops that take the processor's widest instructions and give the same bits without them. Know nothing of models.

pub mod int8;
pub mod rows;
