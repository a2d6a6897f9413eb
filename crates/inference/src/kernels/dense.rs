//! Products of single-precision matrices in the three forms that dense layers need: forward, gradient of the inputs,
//! gradient of the weights. Knows no layer.
//!
//! Each output is one chain of fused multiply-adds in the order of the summed index, beginning at the bias or at zero.
//! A fused multiply-add rounds once, whoever computes it, so AVX-512, AVX2 and portable code give the same bits, and a
//! row has the same bits alone and in any batch.
#![expect(unsafe_code, reason = "vector registers: loads and stores by pointer, features found at run time")]

use std::cell::RefCell;

/// Columns of a panel of [`Packed`]: one AVX-512 register.
const PANEL: usize = 16;

/// Vectors that one tile holds at most in a row: what the padded bias is made for.
const TILE_COLUMNS_MAX: usize = 128;

/// The right matrix of a product (`depth x columns`), rearranged into panels of 16 columns so that a product reads it in
/// one go. The last panel is filled up with zeros.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packed {
    depth: usize,
    columns: usize,
    panels: Vec<f32>,
}

impl Packed {
    /// Of a row-major `depth x columns` matrix.
    pub fn new(matrix: &[f32], depth: usize, columns: usize) -> Packed {
        let mut packed = Packed::default();
        packed.set(matrix, depth, columns);
        packed
    }

    /// Of the transpose of a row-major `columns x depth` matrix.
    pub fn transposed(matrix: &[f32], depth: usize, columns: usize) -> Packed {
        let mut packed = Packed::default();
        packed.set_transposed(matrix, depth, columns);
        packed
    }

    /// As [`Packed::new`], in the memory at hand.
    pub fn set(&mut self, matrix: &[f32], depth: usize, columns: usize) {
        assert_eq!(matrix.len(), depth * columns, "a matrix of {depth} x {columns}");
        self.resize(depth, columns);
        if depth == 0 {
            return;
        }
        for (panel, values) in self.panels.chunks_exact_mut(depth * PANEL).enumerate() {
            let from = panel * PANEL;
            let width = PANEL.min(columns - from);
            for (row, place) in values.chunks_exact_mut(PANEL).enumerate() {
                let at = row * columns + from;
                place[..width].copy_from_slice(&matrix[at..at + width]);
            }
        }
    }

    /// As [`Packed::transposed`], in the memory at hand.
    pub fn set_transposed(&mut self, matrix: &[f32], depth: usize, columns: usize) {
        assert_eq!(matrix.len(), depth * columns, "a matrix of {columns} x {depth}");
        self.resize(depth, columns);
        if depth == 0 {
            return;
        }
        for (panel, values) in self.panels.chunks_exact_mut(depth * PANEL).enumerate() {
            let from = panel * PANEL;
            for place in 0..PANEL.min(columns - from) {
                let row = &matrix[(from + place) * depth..(from + place + 1) * depth];
                for (k, value) in row.iter().enumerate() {
                    values[k * PANEL + place] = *value;
                }
            }
        }
    }

    fn resize(&mut self, depth: usize, columns: usize) {
        let len = columns.div_ceil(PANEL) * PANEL * depth;
        if (self.depth, self.columns, self.panels.len()) != (depth, columns, len) {
            self.panels.clear();
            self.panels.resize(len, 0.0);
            (self.depth, self.columns) = (depth, columns);
        }
    }

    pub fn depth(&self) -> usize {
        self.depth
    }

    pub fn columns(&self) -> usize {
        self.columns
    }
}

/// `out = a b + bias`: `a` row-major `rows x depth`, `out` row-major `rows x columns`, the bias (zero without) added to
/// every row. The forward pass with the weights as `b`, the gradient of the inputs with their transpose.
pub fn multiply(a: &[f32], rows: usize, b: &Packed, bias: Option<&[f32]>, out: &mut [f32]) {
    multiply_at(level(), a, rows, b, bias, out);
}

/// `out = a^T b`: `a` row-major `depth x rows`, `out` row-major `rows x columns`. The gradient of the weights, with the
/// layer's inputs as `a` and the gradient of its sums as `b`.
pub fn multiply_transposed(a: &[f32], rows: usize, b: &Packed, out: &mut [f32]) {
    multiply_transposed_at(level(), a, rows, b, out);
}

fn multiply_at(level: Level, a: &[f32], rows: usize, b: &Packed, bias: Option<&[f32]>, out: &mut [f32]) {
    assert_eq!((a.len(), out.len()), (rows * b.depth, rows * b.columns), "{rows} rows");
    assert!(bias.is_none_or(|bias| bias.len() == b.columns), "a bias for {} columns", b.columns);
    run(level, &Job { a: a.as_ptr(), row_step: b.depth, depth_step: 1, rows, b, bias, out: out.as_mut_ptr() });
}

fn multiply_transposed_at(level: Level, a: &[f32], rows: usize, b: &Packed, out: &mut [f32]) {
    assert_eq!((a.len(), out.len()), (rows * b.depth, rows * b.columns), "{rows} rows");
    run(level, &Job { a: a.as_ptr(), row_step: 1, depth_step: rows, rows, b, bias: None, out: out.as_mut_ptr() });
}

/// What the processor offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return Level::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Level::Avx2;
        }
    }
    Level::Portable
}

/// A product whose sizes have been checked: `a` holds `rows` times `depth` values by the two steps, `out` has
/// `rows * columns` places.
struct Job<'a> {
    a: *const f32,
    row_step: usize,
    depth_step: usize,
    rows: usize,
    b: &'a Packed,
    bias: Option<&'a [f32]>,
    out: *mut f32,
}

fn run(level: Level, job: &Job) {
    match level {
        // SAFETY: the job's sizes were checked where it was made.
        Level::Portable => unsafe { run_portable(job) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above, and the features were detected.
        Level::Avx2 => unsafe { run_avx2(job) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above, and the feature was detected.
        Level::Avx512 => unsafe { run_avx512(job) },
    }
}

/// # Safety
/// The job's sizes are right.
unsafe fn run_portable(job: &Job) {
    // SAFETY: by this function's own condition.
    unsafe { tiles::<[f32; 4], 4, 4, 8>(job) }
}

/// # Safety
/// The job's sizes are right, and the processor has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2(job: &Job) {
    // SAFETY: by this function's own condition. Six rows of two registers leave four of the sixteen for operands.
    unsafe { tiles::<std::arch::x86_64::__m256, 6, 2, 8>(job) }
}

/// # Safety
/// The job's sizes are right, and the processor has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn run_avx512(job: &Job) {
    // SAFETY: by this function's own condition. Twelve rows of two registers leave eight of the 32 for operands.
    unsafe { tiles::<std::arch::x86_64::__m512, 12, 2, 8>(job) }
}

/// A register of numbers.
trait Vector: Copy {
    const LANES: usize;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn splat(value: f32) -> Self;
    /// self * factor + sum, rounded once.
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self;
}

impl Vector for [f32; 4] {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller has four numbers there.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has room for four numbers there.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; 4]
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        std::array::from_fn(|lane| self[lane].mul_add(factor[lane], sum[lane]))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    impl Vector for __m256 {
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller has eight numbers there, and AVX2.
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller has room for eight numbers there, and AVX2.
            unsafe { _mm256_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller has AVX2.
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
            // SAFETY: the caller has FMA.
            unsafe { _mm256_fmadd_ps(self, factor, sum) }
        }
    }

    impl Vector for __m512 {
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller has sixteen numbers there, and AVX-512F.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller has room for sixteen numbers there, and AVX-512F.
            unsafe { _mm512_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller has AVX-512F.
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
            // SAFETY: the caller has AVX-512F.
            unsafe { _mm512_fmadd_ps(self, factor, sum) }
        }
    }
}

thread_local! {
    /// Rows of the left matrix, rearranged for one tile at a time.
    static LEFT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Tiles of `R` rows and `N` registers; what is left over of the rows in tiles of four and one. A single row takes `W`
/// registers at once, since each of its chains waits for itself.
///
/// # Safety
/// The job's sizes are right, and the processor has what `V` needs.
#[inline(always)]
unsafe fn tiles<V: Vector, const R: usize, const N: usize, const W: usize>(job: &Job) {
    let mut row = 0;
    // SAFETY: every tile's rows are below `job.rows`.
    unsafe {
        while row + R <= job.rows {
            stripe::<V, R, N>(job, row);
            row += R;
        }
        while row + 4 <= job.rows {
            stripe::<V, 4, N>(job, row);
            row += 4;
        }
        while row < job.rows {
            stripe::<V, 1, W>(job, row);
            row += 1;
        }
    }
}

/// All columns of `R` rows. Rows that lie apart are brought together first, if more than one pass reads them.
///
/// # Safety
/// As [`tiles`], with `row + R <= job.rows`.
#[inline(always)]
unsafe fn stripe<V: Vector, const R: usize, const N: usize>(job: &Job, row: usize) {
    // SAFETY: the tile's first value lies in `a`.
    let first = unsafe { job.a.add(row * job.row_step) };
    if R == 1 || job.row_step == 1 || job.b.columns <= N * V::LANES {
        let left = Left { values: first, row_step: job.row_step, depth_step: job.depth_step };
        // SAFETY: `left` holds `R` rows by `depth`.
        return unsafe { columns::<V, R, N>(job, row, &left) };
    }
    // The memory leaves its place while it is used: a closure would not be compiled for the processor's features.
    let mut together = LEFT.take();
    together.resize((R * job.b.depth).max(together.len()), 0.0);
    for (k, values) in together.chunks_exact_mut(R).take(job.b.depth).enumerate() {
        for (r, value) in values.iter_mut().enumerate() {
            // SAFETY: `r` and `k` are below the rows of the tile and the depth.
            *value = unsafe { *first.add(r * job.row_step + k * job.depth_step) };
        }
    }
    let left = Left { values: together.as_ptr(), row_step: 1, depth_step: R };
    // SAFETY: `left` holds `R` rows by `depth`.
    unsafe { columns::<V, R, N>(job, row, &left) };
    LEFT.set(together);
}

/// Rows of the left matrix, from the first of a tile on.
struct Left {
    values: *const f32,
    row_step: usize,
    depth_step: usize,
}

/// # Safety
/// As [`stripe`], and `left` holds `R` rows by `depth`.
#[inline(always)]
unsafe fn columns<V: Vector, const R: usize, const N: usize>(job: &Job, row: usize, left: &Left) {
    let panels = job.b.columns.div_ceil(PANEL);
    let group = N * V::LANES / PANEL;
    let mut panel = 0;
    // SAFETY: the panels are below `panels`.
    unsafe {
        while panel + group <= panels {
            tile::<V, R, N>(job, row, panel, left);
            panel += group;
        }
        while panel < panels {
            match PANEL / V::LANES {
                1 => tile::<V, R, 1>(job, row, panel, left),
                2 => tile::<V, R, 2>(job, row, panel, left),
                _ => tile::<V, R, 4>(job, row, panel, left),
            }
            panel += 1;
        }
    }
}

/// `R` rows by `N` registers of outputs, kept in registers for the whole depth.
///
/// # Safety
/// As [`stripe`], and `panel` and those after it that `N` registers cover exist.
#[inline(always)]
unsafe fn tile<V: Vector, const R: usize, const N: usize>(job: &Job, row: usize, panel: usize, left: &Left) {
    let (depth, columns) = (job.b.depth, job.b.columns);
    let from = panel * PANEL;
    let width = (N * V::LANES).min(columns - from);
    // SAFETY: panels hold `depth * 16` values each, `left` holds `R` rows by `depth`, `out` holds `rows * columns`; the
    // bias is padded to a whole tile, and a tile's last registers are stored by way of such a pad.
    unsafe {
        let start: [V; N] = match job.bias {
            None => [V::splat(0.0); N],
            Some(bias) => {
                let mut pad = [0.0f32; TILE_COLUMNS_MAX];
                pad[..width].copy_from_slice(&bias[from..from + width]);
                std::array::from_fn(|n| V::load(pad.as_ptr().add(n * V::LANES)))
            }
        };
        let mut sums = [start; R];
        let right = job.b.panels.as_ptr().add(panel * depth * PANEL);
        for k in 0..depth {
            let values: [V; N] = std::array::from_fn(|n| {
                let (panel, lane) = (n * V::LANES / PANEL, n * V::LANES % PANEL);
                V::load(right.add((panel * depth + k) * PANEL + lane))
            });
            for (r, sums) in sums.iter_mut().enumerate() {
                let factor = V::splat(*left.values.add(r * left.row_step + k * left.depth_step));
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = factor.mul_add(value, *sum);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            let out = job.out.add((row + r) * columns + from);
            if width == N * V::LANES {
                sums.into_iter().enumerate().for_each(|(n, sum)| sum.store(out.add(n * V::LANES)));
            } else {
                let mut pad = [0.0f32; TILE_COLUMNS_MAX];
                sums.into_iter().enumerate().for_each(|(n, sum)| sum.store(pad.as_mut_ptr().add(n * V::LANES)));
                out.copy_from_nonoverlapping(pad.as_ptr(), width);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn levels() -> Vec<Level> {
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Level::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                levels.push(Level::Avx512);
            }
        }
        levels
    }

    /// Numbers between -1 and 1 whose sums round.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// The definition: one chain for each output.
    fn chains(a: impl Fn(usize, usize) -> f32, b: &[f32], bias: &[f32], rows: usize, depth: usize) -> Vec<u32> {
        let columns = bias.len();
        let output = |at: usize| {
            let (row, column) = (at / columns, at % columns);
            (0..depth).fold(bias[column], |sum, k| a(row, k).mul_add(b[k * columns + column], sum)).to_bits()
        };
        (0..rows * columns).map(output).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_path_gives_the_bits_of_the_definition(
            rows in 1usize..40, depth in 0usize..50, columns in 1usize..150, seed in 0u32..1000,
        ) {
            let (a, b) = (numbers(rows * depth, seed), numbers(depth * columns, seed + 1));
            let (bias, zero) = (numbers(columns, seed + 2), vec![0.0; columns]);
            let packed = Packed::new(&b, depth, columns);
            let flipped: Vec<f32> = (0..depth * columns).map(|at| b[at % depth * columns + at / depth]).collect();
            prop_assert_eq!(&Packed::transposed(&flipped, depth, columns), &packed);
            let forward = chains(|row, k| a[row * depth + k], &b, &bias, rows, depth);
            let weights = chains(|row, k| a[k * rows + row], &b, &zero, rows, depth);
            let mut out = vec![f32::NAN; rows * columns];
            for level in levels() {
                multiply_at(level, &a, rows, &packed, Some(&bias), &mut out);
                prop_assert_eq!(bits(&out), &forward[..], "{:?}", level);
                multiply_transposed_at(level, &a, rows, &packed, &mut out);
                prop_assert_eq!(bits(&out), &weights[..], "{:?}", level);
            }
        }
    }

    #[test]
    fn memory_used_again_holds_nothing_of_before() {
        let mut packed = Packed::new(&numbers(40 * 20, 1), 40, 20);
        let matrix = numbers(20 * 40, 2);
        packed.set(&matrix, 20, 40);
        assert_eq!(packed, Packed::new(&matrix, 20, 40));
        packed.set_transposed(&matrix, 40, 20);
        assert_eq!(packed, Packed::transposed(&matrix, 40, 20));
    }
}
