//! The kernels of x86-64: a tile of sums stays in registers while the weights of its panels stream past.

#![expect(
    unsafe_code,
    reason = "vector instructions that were found on the machine, on slices whose lengths are checked"
)]

use super::path::{Tile, finish};
use super::{GROUP, Int8Layer, PANEL, QuantizedRows};
use std::arch::x86_64::*;

/// Bytes of one panel's group: 16 columns with four inputs each.
const BLOCK: usize = PANEL * GROUP;

/// Where a tile's rows and weights begin, and the number of groups: the checks behind every pointer below.
struct Spans<'a> {
    values: &'a [u8],
    stride: usize,
    weights: &'a [i8],
    groups: usize,
}

fn spans<'a>(layer: &'a Int8Layer, rows: &'a QuantizedRows, tile: Tile) -> Spans<'a> {
    let stride = rows.stride();
    let groups = stride / GROUP;
    assert_eq!(rows.width(), layer.inputs());
    let values = rows.span(tile.row, tile.rows);
    let weights = &layer.packed[tile.panel * groups * BLOCK..(tile.panel + tile.panels) * groups * BLOCK];
    Spans { values, stride, weights, groups }
}

/// Calls `$kernel::<rows, panels>` with the tile's numbers as constants.
macro_rules! by_size {
    ($kernel:ident, $layer:expr, $rows:expr, $tile:expr, $out:expr, [$(($r:literal, $p:literal)),*]) => {
        match ($tile.rows, $tile.panels) {
            // Safety: only called on paths that were found on this machine.
            $(($r, $p) => unsafe { $kernel::<$r, $p>($layer, $rows, $tile, $out) },)*
            (rows, panels) => unreachable!("no kernel takes {rows} rows and {panels} panels"),
        }
    };
}

pub(super) fn avx512_vnni(layer: &Int8Layer, rows: &QuantizedRows, tile: Tile, out: &mut [f32]) {
    by_size!(
        avx512_vnni_tile,
        layer,
        rows,
        tile,
        out,
        [
            (1, 1),
            (2, 1),
            (3, 1),
            (4, 1),
            (5, 1),
            (6, 1),
            (1, 2),
            (2, 2),
            (3, 2),
            (4, 2),
            (5, 2),
            (6, 2),
            (1, 4),
            (2, 4),
            (3, 4),
            (4, 4),
            (5, 4),
            (6, 4)
        ]
    );
}

pub(super) fn avx_vnni(layer: &Int8Layer, rows: &QuantizedRows, tile: Tile, out: &mut [f32]) {
    by_size!(avx_vnni_tile, layer, rows, tile, out, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]);
}

pub(super) fn avx2(layer: &Int8Layer, rows: &QuantizedRows, tile: Tile, out: &mut [f32]) {
    by_size!(avx2_tile, layer, rows, tile, out, [(1, 1), (2, 1), (3, 1)]);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn avx512_vnni_tile<const ROWS: usize, const PANELS: usize>(
    layer: &Int8Layer,
    rows: &QuantizedRows,
    tile: Tile,
    out: &mut [f32],
) {
    let Spans { values, stride, weights, groups } = spans(layer, rows, tile);
    assert!(values.len() >= ROWS * stride && weights.len() >= PANELS * groups * BLOCK);
    let mut sums = [[_mm512_setzero_si512(); PANELS]; ROWS];
    for group in 0..groups {
        // Safety: `group` is below `groups`, so a panel's 64 bytes and a row's 4 lie within what was asserted above.
        let of_panel =
            |panel: usize| unsafe { _mm512_loadu_si512(weights.as_ptr().add((panel * groups + group) * BLOCK).cast()) };
        let mut block = [_mm512_setzero_si512(); PANELS];
        for (panel, block) in block.iter_mut().enumerate() {
            *block = of_panel(panel);
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            // Safety: as above; the four bytes need no alignment.
            let four = unsafe { values.as_ptr().add(row * stride + group * GROUP).cast::<i32>().read_unaligned() };
            let four = _mm512_set1_epi32(four);
            for (sum, block) in sums.iter_mut().zip(&block) {
                *sum = _mm512_dpbusd_epi32(*sum, four, *block);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (panel, sum) in sums.iter().enumerate() {
            let mut integers = [0i32; PANEL];
            // Safety: the array has the 64 bytes that are stored.
            unsafe { _mm512_storeu_si512(integers.as_mut_ptr().cast(), *sum) };
            finish(layer, rows, tile.row + row, tile.panel + panel, &integers, out);
        }
    }
}

#[target_feature(enable = "avx2,avxvnni")]
fn avx_vnni_tile<const ROWS: usize, const PANELS: usize>(
    layer: &Int8Layer,
    rows: &QuantizedRows,
    tile: Tile,
    out: &mut [f32],
) {
    let Spans { values, stride, weights, groups } = spans(layer, rows, tile);
    assert!(PANELS == 1 && values.len() >= ROWS * stride && weights.len() >= groups * BLOCK);
    let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
    for group in 0..groups {
        // Safety: `group` is below `groups`, so the 64 bytes of the panel lie within what was asserted above.
        let block = unsafe {
            let at = weights.as_ptr().add(group * BLOCK);
            [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(BLOCK / 2).cast())]
        };
        for (row, sums) in sums.iter_mut().enumerate() {
            // Safety: as above; the four bytes need no alignment.
            let four = unsafe { values.as_ptr().add(row * stride + group * GROUP).cast::<i32>().read_unaligned() };
            let four = _mm256_set1_epi32(four);
            sums[0] = _mm256_dpbusd_avx_epi32(sums[0], four, block[0]);
            sums[1] = _mm256_dpbusd_avx_epi32(sums[1], four, block[1]);
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        let mut integers = [0i32; PANEL];
        // Safety: the array has the 64 bytes that are stored.
        unsafe {
            _mm256_storeu_si256(integers.as_mut_ptr().cast(), sums[0]);
            _mm256_storeu_si256(integers.as_mut_ptr().add(PANEL / 2).cast(), sums[1]);
        }
        finish(layer, rows, tile.row + row, tile.panel, &integers, out);
    }
}

#[target_feature(enable = "avx2")]
fn avx2_tile<const ROWS: usize, const PANELS: usize>(
    layer: &Int8Layer,
    rows: &QuantizedRows,
    tile: Tile,
    out: &mut [f32],
) {
    let Spans { values, stride, weights, groups } = spans(layer, rows, tile);
    assert!(PANELS == 1 && values.len() >= ROWS * stride && weights.len() >= groups * BLOCK);
    // Each of four vectors holds four columns, two sums each: of inputs 0 and 1 of a group, and of 2 and 3.
    let mut sums = [[_mm256_setzero_si256(); 4]; ROWS];
    for group in 0..groups {
        let mut fours = [_mm256_setzero_si256(); ROWS];
        for (row, four) in fours.iter_mut().enumerate() {
            // Safety: `group` is below `groups`, so a row's four bytes lie within what was asserted above.
            let bytes = unsafe { values.as_ptr().add(row * stride + group * GROUP).cast::<i32>().read_unaligned() };
            *four = _mm256_cvtepu8_epi16(_mm_set1_epi32(bytes));
        }
        for quarter in 0..4 {
            // Safety: as above, for the 16 bytes of a quarter of the panel's 64.
            let block = unsafe { _mm_loadu_si128(weights.as_ptr().add(group * BLOCK + quarter * BLOCK / 4).cast()) };
            let block = _mm256_cvtepi8_epi16(block);
            for (sums, four) in sums.iter_mut().zip(&fours) {
                sums[quarter] = _mm256_add_epi32(sums[quarter], _mm256_madd_epi16(*four, block));
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        // hadd leaves [a0 a1 b0 b1 | a2 a3 b2 b3]; the permutation puts the columns in order.
        let low = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(sums[0], sums[1]));
        let high = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(sums[2], sums[3]));
        let mut integers = [0i32; PANEL];
        // Safety: the array has the 64 bytes that are stored.
        unsafe {
            _mm256_storeu_si256(integers.as_mut_ptr().cast(), low);
            _mm256_storeu_si256(integers.as_mut_ptr().add(PANEL / 2).cast(), high);
        }
        finish(layer, rows, tile.row + row, tile.panel, &integers, out);
    }
}
