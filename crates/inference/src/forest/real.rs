//! Single and double precision behind one name, for kernels that exist in both.

use crate::tensor::{Data, Datatype};

/// A floating-point number that trees compare or sum.
pub trait Real:
    Copy
    + PartialOrd
    + Send
    + Sync
    + std::fmt::Debug
    + std::fmt::Display
    + std::ops::Add<Output = Self>
    + std::ops::AddAssign
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + 'static
{
    const ZERO: Self;
    const NAN: Self;
    const INFINITY: Self;
    const DATATYPE: Datatype;

    fn is_nan(self) -> bool;
    fn next_down(self) -> Self;
    fn next_up(self) -> Self;
    fn trunc(self) -> Self;
    fn total_order(&self, other: &Self) -> std::cmp::Ordering;
    /// Rounded to nearest where it does not fit.
    fn from_f64(value: f64) -> Self;
    /// Towards zero; out of range goes to the nearest end.
    fn to_u32(self) -> u32;
    fn slice(data: &Data) -> Option<&[Self]>;
    fn slice_mut(data: &mut Data) -> Option<&mut [Self]>;
    fn data(values: Vec<Self>) -> Data;
}

macro_rules! real {
    ($type:ident, $kind:ident) => {
        impl Real for $type {
            const ZERO: Self = 0.0;
            const NAN: Self = $type::NAN;
            const INFINITY: Self = $type::INFINITY;
            const DATATYPE: Datatype = Datatype::$kind;

            fn is_nan(self) -> bool {
                $type::is_nan(self)
            }

            fn next_down(self) -> Self {
                $type::next_down(self)
            }

            fn next_up(self) -> Self {
                $type::next_up(self)
            }

            fn trunc(self) -> Self {
                $type::trunc(self)
            }

            fn total_order(&self, other: &Self) -> std::cmp::Ordering {
                self.total_cmp(other)
            }

            fn from_f64(value: f64) -> Self {
                value as $type
            }

            fn to_u32(self) -> u32 {
                self as u32
            }

            fn slice(data: &Data) -> Option<&[Self]> {
                match data {
                    Data::$kind(values) => Some(values),
                    _ => None,
                }
            }

            fn slice_mut(data: &mut Data) -> Option<&mut [Self]> {
                match data {
                    Data::$kind(values) => Some(values),
                    _ => None,
                }
            }

            fn data(values: Vec<Self>) -> Data {
                Data::$kind(values)
            }
        }
    };
}

real!(f32, Fp32);
real!(f64, Fp64);
