//! Which instructions a layer runs on, and what all paths share: how sums become outputs.

use super::{Finish, Int8Layer, PANEL, QuantizedRows, portable};
use std::sync::OnceLock;

/// The ways to multiply. All give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// 64 products an instruction.
    Avx512Vnni,
    /// 32 products an instruction.
    AvxVnni,
    /// 16 products an instruction, in 16 bits: the one with 8-bit factors (`vpmaddubsw`) saturates.
    Avx2,
    Portable,
}

/// A piece of the output: `rows` rows from `row` on, `panels` panels from `panel` on.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub row: usize,
    pub rows: usize,
    pub panel: usize,
    pub panels: usize,
}

impl Path {
    pub const ALL: [Path; 4] = [Path::Avx512Vnni, Path::AvxVnni, Path::Avx2, Path::Portable];

    /// The fastest that this machine has; found out once.
    pub fn best() -> Path {
        static BEST: OnceLock<Path> = OnceLock::new();
        *BEST.get_or_init(|| Path::ALL.into_iter().find(|path| path.detect()).unwrap_or(Path::Portable))
    }

    /// Whether this machine has it.
    pub fn is_here(self) -> bool {
        self == Path::Portable || self == Path::best() || self.detect()
    }

    #[cfg(target_arch = "x86_64")]
    fn detect(self) -> bool {
        match self {
            Path::Avx512Vnni => {
                is_x86_feature_detected!("avx512vnni")
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
            }
            Path::AvxVnni => is_x86_feature_detected!("avxvnni") && is_x86_feature_detected!("avx2"),
            Path::Avx2 => is_x86_feature_detected!("avx2"),
            Path::Portable => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detect(self) -> bool {
        self == Path::Portable
    }

    /// Rows and panels that one call of the kernel takes at most: as many sums as the registers hold.
    pub(super) fn tile(self) -> (usize, usize) {
        match self {
            Path::Avx512Vnni => (6, 4),
            Path::AvxVnni => (6, 1),
            Path::Avx2 => (3, 1),
            // Columns are laid out anew for each tile.
            Path::Portable => (usize::MAX, 1),
        }
    }

    /// Fills a tile of `out`. The machine must have the path.
    pub(super) fn run(self, layer: &Int8Layer, rows: &QuantizedRows, tile: Tile, out: &mut [f32]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Vnni => super::x86::avx512_vnni(layer, rows, tile, out),
            #[cfg(target_arch = "x86_64")]
            Path::AvxVnni => super::x86::avx_vnni(layer, rows, tile, out),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => super::x86::avx2(layer, rows, tile, out),
            _ => portable::tile(layer, rows, tile, out),
        }
    }
}

/// Writes the outputs of one row and panel: `relu((sum - zero * column) * (row scale * column scale) + bias)`. Single
/// operations in single precision, none of them fused, so that every path rounds alike.
#[inline(always)]
pub(super) fn finish(
    layer: &Int8Layer,
    rows: &QuantizedRows,
    row: usize,
    panel: usize,
    sums: &[i32; PANEL],
    out: &mut [f32],
) {
    let from = panel * PANEL;
    let (scale, zero) = rows.scale_and_zero(row);
    let columns = &layer.sums[from..from + PANEL];
    let (scales, bias) = (&layer.scales[from..from + PANEL], &layer.bias[from..from + PANEL]);
    let mut values = [0f32; PANEL];
    for at in 0..PANEL {
        let sum = sums[at] - zero * columns[at];
        values[at] = sum as f32 * (scale * scales[at]) + bias[at];
    }
    if layer.finish == Finish::Relu {
        values.iter_mut().for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value });
    }
    let wide = PANEL.min(layer.outputs - from);
    let at = row * layer.outputs + from;
    if wide == PANEL {
        out[at..at + PANEL].copy_from_slice(&values);
    } else {
        out[at..at + wide].copy_from_slice(&values[..wide]);
    }
}
