//! The state of each weight, and how a mini-batch changes it.
//!
//! All rows of a mini-batch see the weights as they were at its start. FTRL-proximal (McMahan et al., "Ad Click
//! Prediction: a View from the Trenches", KDD 2013, algorithm 1) then needs no step for each row: with w fixed its
//! z += g - sigma w telescopes over the rows to sum(g) - (root(n + sum(g²)) - root(n)) / alpha * w. So a row only adds
//! to z and n, and root and weight are taken once for each weight that the mini-batch touched. AdaGrad is the composite
//! mirror descent of Duchi et al. (JMLR 2011, section 1.1), with penalties that catch up with the mini-batches since
//! the weight was last touched.
//!
//! Numbers lie in relaxed atomics, which are plain loads and stores on the machine: all threads read them in one phase,
//! and each is written by one thread in the other.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use vocabulary::model::{LinearMethod, LinearSpec};

/// What the declaration says about steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub method: LinearMethod,
    alpha: f64,
    /// 1 / alpha
    slowness: f64,
    beta: f64,
    l1: f64,
    l2: f64,
    /// What one mini-batch is of a pass.
    share: f64,
}

impl Rule {
    pub fn new(spec: &LinearSpec, batches: usize) -> Rule {
        let LinearSpec { method, alpha, beta, l1, l2, .. } = *spec;
        Rule { method, alpha, slowness: 1.0 / alpha, beta, l1, l2, share: 1.0 / batches.max(1) as f64 }
    }

    /// For the bias, which is not regularised.
    pub fn free(self) -> Rule {
        Rule { l1: 0.0, l2: 0.0, ..self }
    }

    /// The weight that a z belongs to.
    fn weight(&self, z: f64, root: f64) -> f64 {
        if z.abs() <= self.l1 {
            0.0
        } else {
            (self.l1.copysign(z) - z) / ((self.beta + root) * self.slowness + self.l2)
        }
    }

    /// The z that belongs to a weight; the inverse of the above.
    fn z(&self, weight: f64, root: f64) -> f64 {
        if weight == 0.0 {
            0.0
        } else {
            -weight * ((self.beta + root) * self.slowness + self.l2) - self.l1.copysign(weight)
        }
    }

    /// The weight after a gradient of AdaGrad; `batches` have passed since the last one.
    fn descend(&self, weight: f64, gradient: f64, root: f64, batches: f64) -> f64 {
        let rate = self.alpha / (self.beta + root);
        let share = rate * self.share * batches;
        let to = weight - rate * gradient;
        let shrunk = (to.abs() - share * self.l1).max(0.0).copysign(to);
        shrunk / (1.0 + share * self.l2)
    }
}

/// The same in single precision, for the table.
#[derive(Clone, Copy)]
pub(super) struct TableRule {
    slowness: f32,
    beta: f32,
    l1: f32,
    l2: f32,
    wide: Rule,
}

impl TableRule {
    pub fn new(rule: Rule) -> TableRule {
        let Rule { slowness, beta, l1, l2, .. } = rule;
        TableRule { slowness: slowness as f32, beta: beta as f32, l1: l1 as f32, l2: l2 as f32, wide: rule }
    }
}

/// Bit of `mark` that says that this mini-batch has touched the weight already.
const TOUCHED: u32 = 1 << 31;

/// A weight of the table: 16 bytes, four in a cache line.
#[repr(C, align(16))]
#[derive(Default)]
pub(super) struct Cell {
    weight: AtomicU32,
    /// FTRL's z. AdaGrad: the gradient of the mini-batch.
    z: AtomicU32,
    /// Sum of squared gradients.
    n: AtomicU32,
    /// FTRL: the root of n at the last settlement. AdaGrad: the mini-batch of the last settlement, as an integer.
    mark: AtomicU32,
}

fn float(cell: &AtomicU32) -> f32 {
    f32::from_bits(cell.load(Relaxed))
}

impl Cell {
    #[inline]
    pub fn weight(&self) -> f32 {
        float(&self.weight)
    }

    /// Adds a row's gradient; 1 where it is the first of the mini-batch, otherwise 0.
    #[inline]
    pub fn add(&self, gradient: f32, square: f32) -> usize {
        self.z.store((float(&self.z) + gradient).to_bits(), Relaxed);
        self.n.store((float(&self.n) + square).to_bits(), Relaxed);
        let mark = self.mark.load(Relaxed);
        self.mark.store(mark | TOUCHED, Relaxed);
        1 - (mark >> 31) as usize
    }

    /// FTRL: the weight that the rows added up to.
    #[inline]
    pub fn settle_ftrl(&self, rule: &TableRule) {
        let root = float(&self.n).sqrt();
        let before = f32::from_bits(self.mark.load(Relaxed) & !TOUCHED);
        let z = float(&self.z) - (root - before) * rule.slowness * self.weight();
        let over = rule.l1.copysign(z) - z;
        let over = if z.abs() <= rule.l1 { 0.0 } else { over };
        let weight = over / ((rule.beta + root) * rule.slowness + rule.l2);
        self.put([weight.to_bits(), z.to_bits(), self.n.load(Relaxed), root.to_bits()]);
    }

    /// AdaGrad: the weight after the sum of the rows' gradients. `clock` counts mini-batches from 1.
    #[inline]
    pub fn settle_adagrad(&self, rule: &TableRule, clock: u32) {
        let last = self.mark.load(Relaxed) & !TOUCHED;
        let passed = if last == 0 { 1 } else { clock - last };
        let root = f64::from(float(&self.n).sqrt());
        let weight = rule.wide.descend(f64::from(self.weight()), f64::from(float(&self.z)), root, f64::from(passed));
        self.put([(weight as f32).to_bits(), 0, self.n.load(Relaxed), clock]);
    }

    /// As if the weight had been learned from gradients whose squares add up to `n`.
    pub fn assume(&self, rule: &Rule, weight: f32, n: f32) {
        let root = n.sqrt();
        let bits = match rule.method {
            LinearMethod::Ftrl => [rule.z(f64::from(weight), f64::from(root)) as f32, n, root].map(f32::to_bits),
            LinearMethod::Adagrad => [0, n.to_bits(), 0],
        };
        self.put([weight.to_bits(), bits[0], bits[1], bits[2]]);
    }

    pub fn squares(&self) -> f32 {
        float(&self.n)
    }

    pub fn bits(&self) -> [u32; 4] {
        [&self.weight, &self.z, &self.n, &self.mark].map(|part| part.load(Relaxed))
    }

    pub fn put(&self, bits: [u32; 4]) {
        for (part, bits) in [&self.weight, &self.z, &self.n, &self.mark].into_iter().zip(bits) {
            part.store(bits, Relaxed);
        }
    }
}

/// A weight that each row touches: of a dense column, or the bias. In double precision, since all rows add to it.
#[derive(Default)]
pub(super) struct Wide {
    /// In single precision, as the rows see it.
    weight: AtomicU32,
    z: AtomicU64,
    n: AtomicU64,
}

fn double(cell: &AtomicU64) -> f64 {
    f64::from_bits(cell.load(Relaxed))
}

impl Wide {
    #[inline]
    pub fn weight(&self) -> f32 {
        float(&self.weight)
    }

    /// The weight after a mini-batch with this sum of gradients and of their squares.
    pub fn settle(&self, rule: &Rule, gradient: f32, squares: f32) {
        let (n, weight) = (double(&self.n), f64::from(self.weight()));
        let more = n + f64::from(squares);
        let (before, root) = (n.sqrt(), more.sqrt());
        let weight = match rule.method {
            LinearMethod::Ftrl => {
                let z = double(&self.z) + f64::from(gradient) - (root - before) * rule.slowness * weight;
                self.z.store(z.to_bits(), Relaxed);
                rule.weight(z, root)
            }
            LinearMethod::Adagrad => rule.descend(weight, f64::from(gradient), root, 1.0),
        };
        self.n.store(more.to_bits(), Relaxed);
        self.weight.store((weight as f32).to_bits(), Relaxed);
    }

    pub fn assume(&self, rule: &Rule, weight: f32, n: f64) {
        let z = match rule.method {
            LinearMethod::Ftrl => rule.z(f64::from(weight), n.sqrt()),
            LinearMethod::Adagrad => 0.0,
        };
        self.put(weight.to_bits(), [z.to_bits(), n.to_bits()]);
    }

    pub fn bits(&self) -> (u32, [u64; 2]) {
        (self.weight.load(Relaxed), [self.z.load(Relaxed), self.n.load(Relaxed)])
    }

    pub fn put(&self, weight: u32, [z, n]: [u64; 2]) {
        self.weight.store(weight, Relaxed);
        self.z.store(z, Relaxed);
        self.n.store(n, Relaxed);
    }
}
