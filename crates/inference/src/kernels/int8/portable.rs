//! The path of machines without any of the instructions, and the measure of the others: plain sums along each column,
//! which compilers turn into vectors of whatever width there is.

use super::path::{Tile, finish};
use super::{GROUP, Int8Layer, PANEL, QuantizedRows};

pub(super) fn tile(layer: &Int8Layer, rows: &QuantizedRows, tile: Tile, out: &mut [f32]) {
    let (stride, groups) = (rows.stride(), rows.stride() / GROUP);
    let mut columns = vec![0i8; PANEL * stride];
    for panel in tile.panel..tile.panel + tile.panels {
        let (packed, _) = layer.packed[panel * groups * PANEL * GROUP..].as_chunks::<GROUP>();
        for (at, four) in packed[..groups * PANEL].iter().enumerate() {
            let to = at % PANEL * stride + at / PANEL * GROUP;
            columns[to..to + GROUP].copy_from_slice(four);
        }
        for row in tile.row..tile.row + tile.rows {
            let mut sums = [0i32; PANEL];
            for (sum, column) in sums.iter_mut().zip(columns.chunks_exact(stride)) {
                let products =
                    column.iter().zip(rows.row(row)).map(|(weight, value)| i32::from(*weight) * i32::from(*value));
                *sum = products.sum();
            }
            finish(layer, rows, row, panel, &sums, out);
        }
    }
}
