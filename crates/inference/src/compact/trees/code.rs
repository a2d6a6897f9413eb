//! The compact form on disk, version 1: a magic word, one stream of bits, and a checksum of both (the first eight bytes
//! of BLAKE3).
//!
//! The stream: link (8 bits), bits of a leaf (8), outputs (16), trees (32), columns in use (32); the base of each output
//! (single precision). For each column in use: its place (32), the kind of its thresholds (2), how many (32), one more
//! than the largest category that any split names (32), and the thresholds, ascending. For each tree: its output, the
//! scale of its leaves where they are whole numbers, and its nodes in preorder. A node: 1 bit that tells a split from a
//! leaf; of a leaf its value; of a split the column, the threshold's place or the categories, 1 bit for where a missing
//! value goes, and 8 bits for the share of rows that went left. A place has as many bits as its table needs.

use super::bits::{ENDED, Reader, Writer, width_of};
use crate::ensemble::{Ensemble, Node, Split, Test, Tree};
use crate::model::{Link, ModelError};
use std::collections::BTreeMap;

const MAGIC: &[u8; 8] = b"HSCTREE1";
const CHECKSUM: usize = 8;

/// Categories beyond this have no code in single precision.
const CATEGORIES_MAX: usize = 1 << 24;

/// How leaves are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Leaves {
    Single,
    /// As whole numbers of so many bits, times the tree's scale.
    Fixed(u32),
}

impl Leaves {
    fn width(self) -> u32 {
        match self {
            Leaves::Single => 32,
            Leaves::Fixed(bits) => bits,
        }
    }
}

/// How a column's thresholds are written: the narrowest that holds all of them exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Byte = 0,
    Short = 1,
    Single = 2,
}

impl Kind {
    fn of(thresholds: &[f32]) -> Kind {
        let whole = |low: f32, high: f32| thresholds.iter().all(|t| t.trunc() == *t && (low..=high).contains(t));
        match () {
            () if whole(0.0, 255.0) => Kind::Byte,
            () if whole(-32_768.0, 32_767.0) => Kind::Short,
            () => Kind::Single,
        }
    }

    fn write(self, threshold: f32, out: &mut Writer) {
        match self {
            Kind::Byte => out.push(threshold as u64, 8),
            Kind::Short => out.push(u64::from((threshold as i16).cast_unsigned()), 16),
            Kind::Single => out.float(threshold),
        }
    }

    fn read(self, from: &mut Reader) -> Result<f32, &'static str> {
        match self {
            Kind::Byte => Ok(from.take(8)? as f32),
            Kind::Short => Ok(f32::from((from.take(16)? as u16).cast_signed())),
            Kind::Single => from.float(),
        }
    }
}

/// What the splits of one column compare with.
#[derive(Default)]
struct Table {
    place: u32,
    /// Ascending, each once.
    thresholds: Vec<f32>,
    /// One more than the largest category.
    categories: usize,
}

/// The scale of a tree's leaves in so many bits: its largest leaf is the largest whole number.
pub(super) fn scale_of(tree: &Tree, bits: u32) -> f32 {
    let largest = tree.nodes.iter().map(|node| if let Node::Leaf(value) = node { value.abs() } else { 0.0 });
    let largest = largest.fold(0.0, f32::max);
    let steps = ((1u32 << (bits - 1)) - 1) as f32;
    let scale = largest / steps;
    // Leaves that are all but zero, whose scale would be zero, are zero.
    if scale >= f32::MIN_POSITIVE { scale } else { 1.0 }
}

/// The whole number nearest to a leaf.
pub(super) fn whole(value: f32, scale: f32, bits: u32) -> i32 {
    let end = (1i32 << (bits - 1)) - 1;
    ((value / scale).round_ties_even() as i32).clamp(-end, end)
}

pub(super) fn encode(ensemble: &Ensemble, link: Link, leaves: Leaves) -> Result<Vec<u8>, ModelError> {
    let tables = tables(ensemble);
    if tables.values().any(|table| table.categories > CATEGORIES_MAX) {
        let what = format!("a split names a category beyond {CATEGORIES_MAX}");
        return Err(ModelError::Parts { kind: super::CompactTreesModel::KIND, what });
    }
    let mut out = Writer::default();
    out.push(u64::from(link.code()), 8);
    out.push(u64::from(leaves.width()), 8);
    out.push(ensemble.outputs() as u64, 16);
    out.push(ensemble.trees.len() as u64, 32);
    out.push(tables.len() as u64, 32);
    ensemble.base.iter().for_each(|base| out.float(*base));
    let mut refs = BTreeMap::new();
    for (at, (column, table)) in tables.iter().enumerate() {
        let kind = Kind::of(&table.thresholds);
        out.push(u64::from(*column), 32);
        out.push(kind as u64, 2);
        out.push(table.thresholds.len() as u64, 32);
        out.push(table.categories as u64, 32);
        table.thresholds.iter().for_each(|threshold| kind.write(*threshold, &mut out));
        refs.insert(*column, (at, table));
    }
    for tree in &ensemble.trees {
        out.push(tree.output as u64, width_of(ensemble.outputs()));
        let scale = match leaves {
            Leaves::Single => 1.0,
            Leaves::Fixed(bits) => scale_of(tree, bits),
        };
        if leaves != Leaves::Single {
            out.float(scale);
        }
        for node in &tree.nodes {
            match (node, leaves) {
                (Node::Leaf(value), Leaves::Single) => {
                    out.push(0, 1);
                    out.float(*value);
                }
                (Node::Leaf(value), Leaves::Fixed(bits)) => {
                    out.push(0, 1);
                    out.push(whole(*value, scale, bits) as u64, bits);
                }
                (Node::Split(split), _) => {
                    out.push(1, 1);
                    let (at, table) = refs[&split.feature];
                    out.push(at as u64, width_of(tables.len()));
                    write_test(&split.test, table, &mut out);
                    out.push(u64::from(split.missing_left), 1);
                    out.push((split.left_share * 256.0).round_ties_even().clamp(1.0, 255.0) as u64, 8);
                }
            }
        }
    }
    let mut bytes = [&MAGIC[..], &out.into_bytes()].concat();
    let checksum = checksum(&bytes);
    bytes.extend(checksum);
    Ok(bytes)
}

pub(super) fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    std::array::from_fn(|at| blake3::hash(bytes).as_bytes()[at])
}

fn tables(ensemble: &Ensemble) -> BTreeMap<u32, Table> {
    let mut tables: BTreeMap<u32, Table> = BTreeMap::new();
    for node in ensemble.trees.iter().flat_map(|tree| &tree.nodes) {
        let Node::Split(split) = node else { continue };
        let table = tables.entry(split.feature).or_default();
        match &split.test {
            // Minus zero and zero are one threshold.
            Test::Below(threshold) => table.thresholds.push(threshold + 0.0),
            Test::Member(categories) => {
                let end = categories.last().map_or(1, |last| *last as usize + 1);
                table.categories = table.categories.max(end);
            }
        }
    }
    for (place, table) in &mut tables {
        table.place = *place;
        table.thresholds.sort_unstable_by(f32::total_cmp);
        table.thresholds.dedup();
    }
    tables
}

/// A column that has both kinds of splits tells them apart by a bit. Categories are a mask or a list, whichever is
/// shorter.
fn write_test(test: &Test, table: &Table, out: &mut Writer) {
    if !table.thresholds.is_empty() && table.categories > 0 {
        out.push(u64::from(matches!(test, Test::Member(_))), 1);
    }
    match test {
        Test::Below(threshold) => {
            let place = table.thresholds.partition_point(|known| known < threshold);
            out.push(place as u64, width_of(table.thresholds.len()));
        }
        Test::Member(categories) => {
            let width = width_of(table.categories);
            let as_list = 16 + categories.len() * (width as usize) < table.categories && categories.len() < 1 << 16;
            out.push(u64::from(as_list), 1);
            if as_list {
                out.push(categories.len() as u64, 16);
                categories.iter().for_each(|category| out.push(u64::from(*category), width));
            } else {
                let mut next = categories.iter().peekable();
                for category in 0..table.categories {
                    let within = next.next_if(|known| **known as usize == category).is_some();
                    out.push(u64::from(within), 1);
                }
            }
        }
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<(Ensemble, Link), &'static str> {
    let (body, found) = bytes.split_last_chunk::<CHECKSUM>().ok_or(ENDED)?;
    let stream = body.strip_prefix(MAGIC).ok_or("they do not begin with HSCTREE1")?;
    if checksum(body) != *found {
        return Err("the checksum does not agree");
    }
    read(&mut Reader::new(stream))
}

fn read(from: &mut Reader) -> Result<(Ensemble, Link), &'static str> {
    let link = Link::from_code(from.take(8)? as u8).ok_or("the link is unknown")?;
    let leaves = match from.take(8)? as u32 {
        32 => Leaves::Single,
        bits @ (8 | 16) => Leaves::Fixed(bits),
        _ => return Err("leaves of this width are unknown"),
    };
    let outputs = from.take(16)? as usize;
    let (trees, columns) = (from.take(32)? as usize, from.take(32)? as usize);
    if outputs == 0 {
        return Err("there are no outputs");
    }
    // Each takes a bit at least, so that what is announced cannot ask for more memory than the bytes justify.
    if from.left() < 32 * outputs || from.left() < trees || from.left() < 66 * columns {
        return Err(ENDED);
    }
    let base = (0..outputs).map(|_| from.float()).collect::<Result<_, _>>()?;
    let tables = (0..columns).map(|_| read_table(from)).collect::<Result<Vec<_>, _>>()?;
    if tables.windows(2).any(|pair| pair[0].place >= pair[1].place) {
        return Err("the columns are not in order");
    }
    let trees = (0..trees).map(|_| read_tree(from, outputs, &tables, leaves)).collect::<Result<_, _>>()?;
    if from.left() >= 8 || from.take(from.left() as u32)? != 0 {
        return Err("there are more of them than the trees need");
    }
    Ok((Ensemble { base, trees }, link))
}

fn read_table(from: &mut Reader) -> Result<Table, &'static str> {
    let place = from.take(32)? as u32;
    let kind = match from.take(2)? {
        0 => Kind::Byte,
        1 => Kind::Short,
        2 => Kind::Single,
        _ => return Err("thresholds of this kind are unknown"),
    };
    let (count, categories) = (from.take(32)? as usize, from.take(32)? as usize);
    if from.left() < 8 * count {
        return Err(ENDED);
    }
    if categories > CATEGORIES_MAX {
        return Err("a column has too many categories");
    }
    let thresholds = (0..count).map(|_| kind.read(from)).collect::<Result<Vec<_>, _>>()?;
    if !thresholds.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err("thresholds are not in order");
    }
    Ok(Table { place, thresholds, categories })
}

fn read_tree(from: &mut Reader, outputs: usize, tables: &[Table], leaves: Leaves) -> Result<Tree, &'static str> {
    let output = from.below(outputs)?;
    let scale = if leaves == Leaves::Single { 1.0 } else { from.float()? };
    let mut nodes = Vec::new();
    // Splits whose right branch is still to come.
    let mut open: Vec<usize> = Vec::new();
    loop {
        if from.take(1)? == 1 {
            open.push(nodes.len());
            nodes.push(Node::Split(read_split(from, tables)?));
            continue;
        }
        nodes.push(Node::Leaf(match leaves {
            Leaves::Single => from.float()?,
            Leaves::Fixed(bits) => {
                let shift = 64 - bits;
                let value = (from.take(bits)? << shift).cast_signed() >> shift;
                let value = value as f32 * scale;
                if !value.is_finite() {
                    return Err("a leaf is not finite");
                }
                value
            }
        }));
        let Some(parent) = open.pop() else { return Ok(Tree { output, nodes }) };
        let right = nodes.len() as u32;
        if let Node::Split(split) = &mut nodes[parent] {
            split.right = right;
        }
    }
}

fn read_split(from: &mut Reader, tables: &[Table]) -> Result<Split, &'static str> {
    let table = tables.get(from.below(tables.len())?).ok_or("a split names no column")?;
    let member = match (table.thresholds.is_empty(), table.categories) {
        (true, 0) => return Err("a split names a column without thresholds"),
        (true, _) => true,
        (false, 0) => false,
        (false, _) => from.take(1)? == 1,
    };
    let test = if member {
        read_categories(from, table)?
    } else {
        Test::Below(table.thresholds[from.below(table.thresholds.len())?])
    };
    let missing_left = from.take(1)? == 1;
    let left_share = from.take(8)?.max(1) as f32 / 256.0;
    Ok(Split { feature: table.place, test, missing_left, right: 0, left_share })
}

fn read_categories(from: &mut Reader, table: &Table) -> Result<Test, &'static str> {
    let mut categories = Vec::new();
    if from.take(1)? == 1 {
        for _ in 0..from.take(16)? {
            categories.push(from.below(table.categories)? as u32);
        }
        if !categories.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err("categories are not in order");
        }
    } else {
        for category in 0..table.categories {
            if from.take(1)? == 1 {
                categories.push(category as u32);
            }
        }
    }
    Ok(Test::Member(categories))
}
