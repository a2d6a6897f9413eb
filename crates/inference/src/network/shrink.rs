//! Physical removal of what nothing reads or what is always zero. Knows not why it became zero.

use super::parts::{NetworkParts, Numeric};

impl NetworkParts {
    /// Removes blocks of inputs that every reading weight ignores (a dense column's encoding, single numbers of an
    /// embedding), tables that no slot reads, and hidden units whose outputs are ignored or that are zero for every row.
    /// The answers stay the same: a term of zero changes no sum. Units of residual layers, and of layers below one, stay,
    /// since their number has to agree. Repeats until nothing more can go.
    pub fn shrink(&mut self) {
        loop {
            let before = self.numbers();
            self.remove_units();
            self.remove_inputs();
            if self.numbers() == before {
                return;
            }
        }
    }

    fn remove_units(&mut self) {
        for at in 0..self.hidden.len() {
            let above = self.hidden.get(at + 1);
            if self.hidden[at].residual || above.is_some_and(|layer| layer.residual) {
                continue;
            }
            let reader = above.map_or(&self.output, |layer| &layer.dense);
            let own = &self.hidden[at].dense;
            let units = own.outputs as usize;
            let read = |unit: usize| row(&reader.weights, reader.outputs, unit).iter().any(|weight| *weight != 0.0);
            // A rectified sum without weights is zero if its bias is not positive.
            let alive = |unit: usize| {
                own.bias[unit] > 0.0 || own.weights.iter().skip(unit).step_by(units).any(|weight| *weight != 0.0)
            };
            let kept: Vec<usize> = (0..units).filter(|unit| read(*unit) && alive(*unit)).collect();
            if kept.len() == units {
                continue;
            }
            let own = &mut self.hidden[at].dense;
            own.weights = own.weights.chunks_exact(units).flat_map(|row| kept.iter().map(|unit| row[*unit])).collect();
            own.bias = kept.iter().map(|unit| own.bias[*unit]).collect();
            own.outputs = kept.len() as u32;
            let reader = match self.hidden.get_mut(at + 1) {
                Some(layer) => &mut layer.dense,
                None => &mut self.output,
            };
            keep_rows(&mut reader.weights, reader.outputs, &kept);
            reader.inputs = kept.len() as u32;
        }
    }

    fn remove_inputs(&mut self) {
        // A residual first layer adds the input vector itself.
        if self.hidden.first().is_some_and(|layer| layer.residual) {
            return;
        }
        let reader = self.hidden.first().map_or(&self.output, |layer| &layer.dense);
        let readers = || self.cross.iter().chain([reader]);
        let ignored = |input: usize| {
            readers().all(|dense| row(&dense.weights, dense.outputs, input).iter().all(|weight| *weight == 0.0))
        };
        let blocks = self.blocks();
        let starts: Vec<usize> = blocks.iter().scan(0, |at, width| Some(std::mem::replace(at, *at + width))).collect();
        let mut kept = Vec::new();
        let mut numeric = self.numeric.clone();
        for ((numeric, start), width) in numeric.iter_mut().zip(&starts).zip(&blocks) {
            if (*start..start + width).all(ignored) {
                *numeric = Numeric::Unused;
            } else {
                kept.extend(*start..start + width);
            }
        }
        // A number of an embedding goes when none of the slots that read the table needs it.
        let mut wanted: Vec<Vec<bool>> =
            self.tables.iter().map(|table| vec![false; table.dimension as usize]).collect();
        let slot_starts = &starts[self.numeric.len()..];
        let unread = |start: usize, width: usize| (start..start + width).all(ignored);
        let mut slots = self.slots.clone();
        for ((slot, start), width) in slots.iter_mut().zip(slot_starts).zip(&blocks[self.numeric.len()..]) {
            let Some(table) = *slot else { continue };
            if unread(*start, *width) {
                *slot = None;
                continue;
            }
            for (place, wanted) in wanted[table as usize].iter_mut().enumerate() {
                *wanted |= !ignored(start + place);
            }
        }
        for (slot, start) in slots.iter().zip(slot_starts) {
            let Some(table) = *slot else { continue };
            let places = wanted[table as usize].iter().enumerate().filter(|(_, wanted)| **wanted);
            kept.extend(places.map(|(place, _)| start + place));
        }
        self.numeric = numeric;
        self.slots = slots;
        self.shrink_tables(&wanted);
        if kept.len() < self.baseline.len() {
            self.keep_inputs(&kept);
        }
    }

    /// Keeps the wanted numbers of each table, and the tables that are still read.
    fn shrink_tables(&mut self, wanted: &[Vec<bool>]) {
        for (table, wanted) in self.tables.iter_mut().zip(wanted) {
            let dimension = table.dimension as usize;
            let rows = table.weights.chunks_exact(dimension.max(1));
            let keep = |row: &[f32]| {
                row.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(w, _)| *w).collect::<Vec<_>>()
            };
            table.weights = rows.flat_map(keep).collect();
            table.dimension = wanted.iter().filter(|wanted| **wanted).count() as u32;
        }
        let mut places = vec![None; self.tables.len()];
        let mut count = 0;
        for (table, place) in places.iter_mut().enumerate() {
            if self.slots.contains(&Some(table as u32)) {
                *place = Some(count);
                count += 1;
            }
        }
        let mut read = places.iter().map(Option::is_some);
        self.tables.retain(|_| read.next() == Some(true));
        for slot in &mut self.slots {
            *slot = slot.and_then(|table| places[table as usize]);
        }
    }

    fn keep_inputs(&mut self, kept: &[usize]) {
        let inputs = kept.len() as u32;
        self.baseline = kept.iter().map(|input| self.baseline[*input]).collect();
        for cross in &mut self.cross {
            let columns = cross.outputs as usize;
            keep_rows(&mut cross.weights, cross.outputs, kept);
            cross.weights =
                cross.weights.chunks_exact(columns).flat_map(|row| kept.iter().map(|at| row[*at])).collect();
            cross.bias = kept.iter().map(|at| cross.bias[*at]).collect();
            (cross.inputs, cross.outputs) = (inputs, inputs);
        }
        let reader = match self.hidden.first_mut() {
            Some(layer) => &mut layer.dense,
            None => &mut self.output,
        };
        keep_rows(&mut reader.weights, reader.outputs, kept);
        reader.inputs = inputs;
    }
}

fn row(weights: &[f32], columns: u32, row: usize) -> &[f32] {
    let columns = columns as usize;
    &weights[row * columns..(row + 1) * columns]
}

fn keep_rows(weights: &mut Vec<f32>, columns: u32, kept: &[usize]) {
    *weights = kept.iter().flat_map(|at| row(weights, columns, *at).iter().copied()).collect();
}
