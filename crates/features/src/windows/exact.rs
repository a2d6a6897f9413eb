//! Sums of floats without any rounding, so that they do not depend on order: fixed-point numbers in two's complement, wide
//! enough for what usually comes, and a wide one for the rest (Kulisch's accumulator, "Computer Arithmetic and Validity",
//! 2008, kept as small as the values allow). Rounded once, to the nearest float and ties to even, when read.

/// An exact sum in `N` words. Its unit is chosen by the first value; a value that does not fit moves the sum into
/// [`Wide`]. What it stands for never depends on which of the two forms it has.
#[derive(Clone, Debug)]
pub(super) struct Exact<const N: usize> {
    words: [u64; N],
    /// The unit is two to the power of this; [`UNSET`] before the first value.
    unit: i32,
    wide: Option<Box<Wide>>,
}

const UNSET: i32 = i32::MIN;

/// The unit of a sum lies this many bits below its first value's last bit, and on a multiple of this: sums of alike values
/// then have the same unit, and are merged word by word.
const UNIT_STEP: i32 = 32;

const WIDE_WORDS: usize = 70;
/// Below the square of the smallest float (2^-2148); the top (2^2304) is 2^256 times above the square of the greatest.
const WIDE_UNIT: i32 = -34 * 64;

/// Any sum of floats and of their squares.
#[derive(Clone, Debug)]
struct Wide([u64; WIDE_WORDS]);

/// A number without rounding: sign, magnitude (least word first) and unit. What a sum is written and rounded from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) negative: bool,
    pub(super) words: Vec<u64>,
    pub(super) unit: i32,
}

/// A finite float as magnitude and exponent.
#[inline]
fn parts(value: f64) -> (u64, i32, Sign) {
    let bits = value.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let sign = if bits >> 63 == 1 { Sign::Minus } else { Sign::Plus };
    match ((bits >> 52) & 0x7ff) as i32 {
        0 => (fraction, -1074, sign),
        exponent => (fraction | 1 << 52, exponent - 1075, sign),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Sign {
    Plus,
    Minus,
}

/// Adds a magnitude shifted left by `shift` bits; what goes over the end is lost, which callers rule out.
#[inline]
fn add_shifted(words: &mut [u64], magnitude: u128, shift: u32, sign: Sign) {
    let (place, bits) = ((shift / 64) as usize, shift % 64);
    let low = magnitude << bits;
    let high = if bits == 0 { 0 } else { (magnitude >> (128 - bits)) as u64 };
    let three = [low as u64, (low >> 64) as u64, high];
    let mut carry = false;
    for (i, word) in words[place..].iter_mut().enumerate() {
        let part = three.get(i).copied().unwrap_or(0);
        if i >= 3 && !carry {
            break;
        }
        let (sum, over) = match sign {
            Sign::Plus => word.overflowing_add(part),
            Sign::Minus => word.overflowing_sub(part),
        };
        let (sum, over_again) = match sign {
            Sign::Plus => sum.overflowing_add(u64::from(carry)),
            Sign::Minus => sum.overflowing_sub(u64::from(carry)),
        };
        *word = sum;
        carry = over || over_again;
    }
}

fn is_negative(words: &[u64]) -> bool {
    words.last().is_some_and(|top| top >> 63 == 1)
}

/// The magnitude of a number in two's complement, in place.
fn absolute(words: &mut [u64]) {
    if !is_negative(words) {
        return;
    }
    let mut carry = true;
    for word in words {
        let (sum, over) = (!*word).overflowing_add(u64::from(carry));
        *word = sum;
        carry = over;
    }
}

impl Default for Wide {
    fn default() -> Self {
        Wide([0; WIDE_WORDS])
    }
}

impl Wide {
    fn add(&mut self, magnitude: u128, exponent: i32, sign: Sign) {
        add_shifted(&mut self.0, magnitude, (exponent - WIDE_UNIT) as u32, sign);
    }

    /// Adds a number in two's complement.
    fn add_words(&mut self, words: &[u64], unit: i32) {
        let sign = if is_negative(words) { Sign::Minus } else { Sign::Plus };
        let mut magnitude = words.to_vec();
        absolute(&mut magnitude);
        self.add_magnitude(&magnitude, unit, sign);
    }

    fn add_magnitude(&mut self, words: &[u64], unit: i32, sign: Sign) {
        for (i, word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
            // A word's last bits may be below the wide number's unit only where they are zero.
            let (mut word, mut exponent) = (*word, unit + 64 * i as i32);
            if exponent < WIDE_UNIT {
                let zeros = word.trailing_zeros();
                word >>= zeros;
                exponent += zeros as i32;
            }
            self.add(u128::from(word), exponent, sign);
        }
    }
}

impl<const N: usize> Default for Exact<N> {
    fn default() -> Self {
        Exact { words: [0; N], unit: UNSET, wide: None }
    }
}

impl<const N: usize> Exact<N> {
    /// Adds a finite value.
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        let (magnitude, exponent, sign) = parts(value);
        self.add_parts(u128::from(magnitude), exponent, sign);
    }

    /// Adds the square of a finite value.
    #[inline]
    pub(super) fn add_square(&mut self, value: f64) {
        let (magnitude, exponent, _) = parts(value);
        self.add_parts(u128::from(magnitude) * u128::from(magnitude), 2 * exponent, Sign::Plus);
    }

    #[inline]
    fn add_parts(&mut self, magnitude: u128, exponent: i32, sign: Sign) {
        if magnitude == 0 {
            return;
        }
        if self.wide.is_none() {
            if self.unit == UNSET {
                self.unit = (exponent - UNIT_STEP / 2).div_euclid(UNIT_STEP) * UNIT_STEP;
            }
            let shift = exponent - self.unit;
            let bits = 128 - magnitude.leading_zeros() as i32;
            if shift >= 0 && shift + bits <= Self::BITS {
                add_shifted(&mut self.words, magnitude, shift as u32, sign);
                self.keep_headroom();
                return;
            }
        }
        self.widen().add(magnitude, exponent, sign);
    }

    /// Magnitudes stay below two to the power of this, so that one addition cannot go over the sign.
    const BITS: i32 = 64 * N as i32 - 2;

    #[inline]
    fn keep_headroom(&mut self) {
        let top = self.words[N - 1] >> 62;
        if top == 1 || top == 2 {
            self.widen();
        }
    }

    #[cold]
    fn widen(&mut self) -> &mut Wide {
        let (words, unit) = (&self.words, self.unit);
        self.wide.get_or_insert_with(|| {
            let mut wide = Box::<Wide>::default();
            if unit != UNSET {
                wide.add_words(words, unit);
            }
            wide
        })
    }

    /// Adds another sum.
    #[inline]
    pub(super) fn merge(&mut self, other: &Exact<N>) {
        if other.unit == UNSET && other.wide.is_none() {
            return;
        }
        if self.unit == UNSET && self.wide.is_none() {
            *self = other.clone();
            return;
        }
        if self.unit == other.unit && self.wide.is_none() && other.wide.is_none() {
            let mut carry = false;
            for (word, theirs) in self.words.iter_mut().zip(&other.words) {
                let (sum, over) = word.overflowing_add(*theirs);
                let (sum, over_again) = sum.overflowing_add(u64::from(carry));
                *word = sum;
                carry = over || over_again;
            }
            self.keep_headroom();
            return;
        }
        self.merge_apart(other);
    }

    /// Sums of different units: the coarser one is shifted, or both go into the wide one.
    fn merge_apart(&mut self, other: &Exact<N>) {
        if self.wide.is_none() && other.wide.is_none() {
            let (fine, coarse) = if self.unit < other.unit { (&*self, other) } else { (other, &*self) };
            if let Some(words) = shifted_within(&coarse.words, (coarse.unit - fine.unit) as u32) {
                let mut sum = Exact { words, unit: fine.unit, wide: None };
                sum.merge(&Exact { words: fine.words, unit: fine.unit, wide: None });
                *self = sum;
                return;
            }
        }
        let wide = self.widen();
        match &other.wide {
            Some(theirs) => wide.add_words(&theirs.0, WIDE_UNIT),
            None => wide.add_words(&other.words, other.unit),
        }
    }

    /// The sum itself.
    pub(super) fn number(&self) -> Number {
        let (mut words, unit) = match &self.wide {
            Some(wide) => (wide.0.to_vec(), WIDE_UNIT),
            None if self.unit == UNSET => return Number::default(),
            None => (self.words.to_vec(), self.unit),
        };
        let negative = is_negative(&words);
        absolute(&mut words);
        Number { negative, words, unit }
    }

    /// The sum, rounded to the nearest float; infinite beyond the greatest.
    pub(super) fn round(&self) -> f64 {
        if let Some(wide) = &self.wide {
            return rounded(wide.0, WIDE_UNIT);
        }
        if self.unit == UNSET { 0.0 } else { rounded(self.words, self.unit) }
    }

    /// The sum that a canonical number stands for; none where it is out of range.
    pub(super) fn of(number: &Number) -> Option<Exact<N>> {
        let bits = bit_length(&number.words);
        if bits == 0 {
            return Some(Exact::default());
        }
        let top = number.unit.checked_add(i32::try_from(bits).ok()?)?;
        if number.unit < -2148 || top > 2300 {
            return None;
        }
        let sign = if number.negative { Sign::Minus } else { Sign::Plus };
        let unit = (number.unit - UNIT_STEP / 2).div_euclid(UNIT_STEP) * UNIT_STEP;
        let mut exact = Exact::default();
        if top - unit <= Self::BITS {
            exact.unit = unit;
            for (i, word) in number.words.iter().enumerate().filter(|(_, word)| **word != 0) {
                let shift = number.unit - unit + 64 * i as i32;
                add_shifted(&mut exact.words, u128::from(*word), shift as u32, sign);
            }
        } else {
            exact.widen().add_magnitude(&number.words, number.unit, sign);
        }
        Some(exact)
    }
}

/// A number in two's complement shifted left, where it stays within the headroom.
fn shifted_within<const N: usize>(words: &[u64; N], bits: u32) -> Option<[u64; N]> {
    let mut magnitude = *words;
    let sign = if is_negative(words) { Sign::Minus } else { Sign::Plus };
    absolute(&mut magnitude);
    if bit_length(&magnitude) + bits as usize > 64 * N - 2 {
        return None;
    }
    let mut result = [0; N];
    for (i, word) in magnitude.iter().enumerate().filter(|(_, word)| **word != 0) {
        add_shifted(&mut result, u128::from(*word), bits + 64 * i as u32, sign);
    }
    Some(result)
}

fn rounded<const M: usize>(mut words: [u64; M], unit: i32) -> f64 {
    let negative = is_negative(&words);
    absolute(&mut words);
    let value = round(&words, unit);
    if negative { -value } else { value }
}

fn bit_length(words: &[u64]) -> usize {
    let top = words.iter().rposition(|word| *word != 0);
    top.map_or(0, |i| 64 * i + 64 - words[i].leading_zeros() as usize)
}

/// `words * 2^unit` to the nearest float, ties to even.
fn round(words: &[u64], unit: i32) -> f64 {
    let bits = bit_length(words) as i32;
    if bits == 0 {
        return 0.0;
    }
    // The last place that the result has: 53 bits, fewer below the normal range.
    let cut = (bits - 53).max(-1074 - unit);
    if cut <= 0 {
        return scaled(words[0], unit);
    }
    let bit = |i: i32| i >= 0 && (words.get(i as usize / 64).copied().unwrap_or(0) >> (i % 64)) & 1 == 1;
    let word = |i: usize| words.get(i).copied().unwrap_or(0);
    let (place, offset) = (cut as usize / 64, cut as u32 % 64);
    let both = u128::from(word(place)) | u128::from(word(place + 1)) << 64;
    let mut kept = (both >> offset) as u64;
    let half = bit(cut - 1);
    let below = (cut - 1) as usize;
    let rest = words.iter().take(below / 64).any(|word| *word != 0)
        || words.get(below / 64).is_some_and(|word| word & ((1 << (below % 64)) - 1) != 0);
    if half && (rest || kept & 1 == 1) {
        kept += 1;
    }
    scaled(kept, cut + unit)
}

/// `magnitude * 2^exponent`, exact where a float can hold it; the magnitude is at most 2^53.
fn scaled(magnitude: u64, exponent: i32) -> f64 {
    if magnitude == 0 {
        return 0.0;
    }
    if exponent > 1023 {
        return f64::INFINITY;
    }
    let power = |e: i32| f64::from_bits(((1023 + e) as u64) << 52);
    let half = exponent / 2;
    magnitude as f64 * power(half) * power(exponent - half)
}

impl Number {
    /// The same number with the shortest magnitude: odd, no zero word at the end, unit 0 for zero.
    pub(super) fn canonical(mut self) -> Number {
        let bits = bit_length(&self.words);
        if bits == 0 {
            return Number::default();
        }
        let zeros = self.words.iter().take_while(|word| **word == 0).count();
        self.words.drain(..zeros);
        let shift = self.words[0].trailing_zeros();
        self.unit += 64 * zeros as i32 + shift as i32;
        if shift > 0 {
            for i in 0..self.words.len() {
                let above = self.words.get(i + 1).copied().unwrap_or(0);
                self.words[i] = self.words[i] >> shift | above << (64 - shift);
            }
        }
        self.words.truncate(bit_length(&self.words).div_ceil(64));
        self
    }

    /// Whether it is as [`Number::canonical`] leaves it.
    pub(super) fn is_canonical(&self) -> bool {
        match (self.words.first(), self.words.last()) {
            (Some(first), Some(last)) => first & 1 == 1 && *last != 0,
            _ => !self.negative && self.unit == 0,
        }
    }
}

/// The product of two magnitudes.
fn product(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut words = vec![0u64; a.len() + b.len()];
    for (i, x) in a.iter().enumerate() {
        let mut carry = 0u128;
        for (j, y) in b.iter().enumerate() {
            let sum = u128::from(*x) * u128::from(*y) + u128::from(words[i + j]) + carry;
            words[i + j] = sum as u64;
            carry = sum >> 64;
        }
        words[i + b.len()] = carry as u64;
    }
    words
}

/// A magnitude shifted left.
fn shifted(words: &[u64], bits: u32) -> Vec<u64> {
    let (zeros, bits) = ((bits / 64) as usize, bits % 64);
    let mut result = vec![0u64; zeros];
    let mut carry = 0u64;
    for word in words {
        result.push(word << bits | carry);
        carry = if bits == 0 { 0 } else { word >> (64 - bits) };
    }
    result.push(carry);
    result
}

/// `count * squares - sum^2`, which is never negative for the sums of the same values, rounded once: the sample's variance
/// times `count * (count - 1)`. Equal values give zero exactly.
pub(super) fn spread(count: u64, sum: &Number, squares: &Number) -> f64 {
    let (sum, squares) = (sum.clone().canonical(), squares.clone().canonical());
    let (mut left, mut left_unit) = (product(&squares.words, &[count]), squares.unit);
    let (mut right, right_unit) = (product(&sum.words, &sum.words), 2 * sum.unit);
    if bit_length(&right) > 0 {
        if left_unit > right_unit {
            left = shifted(&left, (left_unit - right_unit) as u32);
            left_unit = right_unit;
        } else {
            right = shifted(&right, (right_unit - left_unit) as u32);
        }
    }
    let mut borrow = false;
    for (i, word) in left.iter_mut().enumerate() {
        let (difference, under) = word.overflowing_sub(right.get(i).copied().unwrap_or(0));
        let (difference, under_again) = difference.overflowing_sub(u64::from(borrow));
        *word = difference;
        borrow = under || under_again;
    }
    debug_assert!(!borrow, "squares are of the values that were summed");
    round(&left, left_unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(values: &[f64]) -> Exact<3> {
        let mut exact = Exact::default();
        values.iter().for_each(|value| exact.add(*value));
        exact
    }

    /// Shewchuk's expansions, rounded as Python's `fsum` does it: another way to the same bits.
    fn fsum(values: &[f64]) -> f64 {
        let mut partials: Vec<f64> = Vec::new();
        for value in values {
            let mut x = *value;
            let mut kept = 0;
            for i in 0..partials.len() {
                let mut y = partials[i];
                if x.abs() < y.abs() {
                    std::mem::swap(&mut x, &mut y);
                }
                let high = x + y;
                let low = y - (high - x);
                if low != 0.0 {
                    partials[kept] = low;
                    kept += 1;
                }
                x = high;
            }
            partials.truncate(kept);
            partials.push(x);
        }
        let mut n = partials.len();
        let (mut high, mut low) = (0.0, 0.0);
        if n > 0 {
            n -= 1;
            high = partials[n];
            while n > 0 {
                let x = high;
                n -= 1;
                let y = partials[n];
                high = x + y;
                low = y - (high - x);
                if low != 0.0 {
                    break;
                }
            }
            if n > 0 && ((low < 0.0 && partials[n - 1] < 0.0) || (low > 0.0 && partials[n - 1] > 0.0)) {
                let y = low * 2.0;
                let x = high + y;
                if y == x - high {
                    high = x;
                }
            }
        }
        high
    }

    fn floats() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => -1e6..1e6f64,
            2 => (-40i32..40, -9_007_199_254_740_992i64..9_007_199_254_740_992)
                .prop_map(|(e, m)| m as f64 * 2f64.powi(e)),
            1 => any::<f64>().prop_filter("finite", |x| x.is_finite() && x.abs() < 1e300),
            1 => prop_oneof![Just(0.0), Just(f64::MIN_POSITIVE), Just(5e-324), Just(-5e-324), Just(1e16), Just(-1e16)],
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn sums_are_rounded_once_and_do_not_depend_on_order(
            values in proptest::collection::vec(floats(), 0..40), cut in 0usize..40,
        ) {
            let whole = sum(&values);
            prop_assert_eq!(whole.round() + 0.0, fsum(&values) + 0.0);
            let cut = cut.min(values.len());
            let mut merged = sum(&values[cut..]);
            merged.merge(&sum(&values[..cut]));
            prop_assert_eq!(merged.round().to_bits(), whole.round().to_bits());
            let number = whole.number().canonical();
            prop_assert_eq!(&merged.number().canonical(), &number);
            prop_assert!(number.is_canonical());
            let back = Exact::<3>::of(&number).unwrap();
            prop_assert_eq!(back.number().canonical(), number);
            let mut gone = back;
            values.iter().for_each(|value| gone.add(-value));
            prop_assert_eq!(gone.number().canonical(), Number::default());
        }

        #[test]
        fn variance_is_of_the_exact_sums(
            values in proptest::collection::vec(-1e6..1e6f64, 2..40), offset in prop_oneof![Just(0.0), Just(1e9), Just(-3e12)],
        ) {
            let values: Vec<f64> = values.iter().map(|value| value + offset).collect();
            let mut squares = Exact::<4>::default();
            values.iter().for_each(|value| squares.add_square(*value));
            let n = values.len() as f64;
            let ours = spread(values.len() as u64, &sum(&values).number(), &squares.number()) / (n * (n - 1.0));
            let mean = fsum(&values) / n;
            let theirs = fsum(&values.iter().map(|x| (x - mean) * (x - mean)).collect::<Vec<_>>()) / (n - 1.0);
            prop_assert!((ours - theirs).abs() <= 1e-9 * theirs + 1e-20, "{} {}", ours, theirs);
        }
    }

    #[test]
    fn equal_values_have_no_variance_and_extremes_are_summed() {
        for value in [0.1, 1e300, 5e-324, -1.0 / 3.0] {
            let mut squares = Exact::<4>::default();
            (0..3).for_each(|_| squares.add_square(value));
            assert_eq!(spread(3, &sum(&[value; 3]).number(), &squares.number()), 0.0);
        }
        assert_eq!(sum(&[1e308, 1e308, -1e308]).round(), 1e308);
        assert_eq!(sum(&[1e308, 1e308]).round(), f64::INFINITY);
        assert_eq!(sum(&[1.0, 1e-300, -1.0]).round(), 1e-300);
        assert_eq!(sum(&[f64::MAX, 5e-324, -f64::MAX]).round(), 5e-324);
    }
}
