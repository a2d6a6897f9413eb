//! Rows that were set aside, as Parquet files under the state folder that a person can correct, and the corrections. A
//! correction is a patch: it belongs to one row of one source, by its place and by what it held, and takes that row's
//! place wherever the source is read again. The source itself is never touched, and nothing is thrown away.
//!
//! ```text
//! .homeostat/quarantine/CONTRACT/SOURCE-DIGEST.parquet      rows as they were read, with the four columns below
//! .homeostat/quarantine/CONTRACT/corrected/NNNNNN-DIGEST.parquet
//! ```

use crate::project::Project;
use anyhow::{Context, Result, bail};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, interleave_record_batch, take_record_batch};
use arrow::datatypes::{Field, Int64Type, Schema};
use features::{Enforced, Enforcer, Rejected, Violations};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::parts::{Format, TableWriter};
use vocabulary::{Contract, Digest};

/// Where a row came from.
pub const SOURCE: &str = "_source";
/// Its place there, from 0.
pub const ROW: &str = "_row";
/// Why it was set aside; of no meaning when it is read again.
pub const REASON: &str = "_reason";
/// What it held: the digest that a correction is found by.
pub const ORIGINAL: &str = "_original";

const CORRECTED: &str = "corrected";

/// The name of the decision log as a source.
pub const LOG: &str = "decision log";

/// A row of a source as it was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub source: String,
    pub row: i64,
    pub original: String,
}

/// The place of a contract's rows that were set aside.
#[derive(Clone, Debug)]
pub struct Quarantine {
    folder: PathBuf,
}

/// Rows that shall be set aside: collected, then written at once.
#[derive(Clone, Debug, Default)]
pub struct Aside {
    rows: Vec<RecordBatch>,
    places: Vec<u64>,
    reasons: Vec<String>,
}

/// What is known of one source's rows that were corrected.
#[derive(Clone, Debug, Default)]
pub struct Corrections {
    rows: Option<RecordBatch>,
    by_place: HashMap<(i64, String), usize>,
    by_value: HashMap<String, usize>,
    /// The files that they are from.
    pub files: Vec<String>,
}

impl Quarantine {
    pub fn of(project: &Project, contract: &str) -> Quarantine {
        Quarantine { folder: project.state().join("quarantine").join(contract) }
    }

    /// The contracts that have one.
    pub fn contracts(project: &Project) -> Result<Vec<String>> {
        let folder = project.state().join("quarantine");
        let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(Vec::new()) };
        let folders = entries.filter_map(|entry| entry.ok()).filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Files of rows that wait.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        parquet_files(&self.folder)
    }

    /// Files of corrections, in the order in which they were made.
    pub fn corrected_files(&self) -> Result<Vec<PathBuf>> {
        parquet_files(&self.folder.join(CORRECTED))
    }

    /// Keeps rows for a person; those that wait already, in whichever file, are not kept twice.
    pub fn keep(&self, source: &str, aside: Aside) -> Result<()> {
        let Some(first) = aside.rows.first() else { return Ok(()) };
        let rows = concat_batches(&first.schema(), &aside.rows)?;
        let waiting = self.waiting();
        let origin = |(row, place): (usize, &u64)| Origin {
            source: source.to_owned(),
            row: *place as i64,
            original: original(&rows, row),
        };
        let all = aside.places.iter().enumerate().map(origin).enumerate();
        let (new, origins): (Vec<u32>, Vec<Origin>) =
            all.filter(|(_, origin)| !waiting.contains(origin)).map(|(row, origin)| (row as u32, origin)).unzip();
        if new.is_empty() {
            return Ok(());
        }
        let identity: Vec<String> =
            origins.iter().map(|origin| format!("{} {}", origin.row, origin.original)).collect();
        let digest = Digest::of(format!("{source}\n{}", identity.join("\n")).as_bytes()).short();
        let path = self.folder.join(format!("{}-{digest}.parquet", stem(source)));
        let reasons = new.iter().map(|row| aside.reasons[*row as usize].as_str());
        let columns: [(&str, ArrayRef); 4] = [
            (SOURCE, Arc::new(StringArray::from(vec![source; new.len()]))),
            (ROW, Arc::new(Int64Array::from_iter_values(origins.iter().map(|origin| origin.row)))),
            (REASON, Arc::new(StringArray::from_iter_values(reasons))),
            (ORIGINAL, Arc::new(StringArray::from_iter_values(origins.iter().map(|origin| &origin.original)))),
        ];
        write(&path, &with_columns(&take_record_batch(&rows, &UInt32Array::from(new))?, columns)?)
    }

    /// The rows that wait. A file that a person is just changing may be unreadable for a moment; its rows are then kept
    /// once more.
    fn waiting(&self) -> HashSet<Origin> {
        let mut waiting = HashSet::new();
        for path in self.files().unwrap_or_default() {
            let read = storage::engine::read_file(&path).map_err(anyhow::Error::from);
            match read.and_then(|rows| origins(&rows, &path)) {
                Ok(found) => waiting.extend(found),
                Err(error) => tracing::warn!("rows that wait can't be read: {error:#}"),
            }
        }
        waiting
    }

    /// Adds corrected rows, whose columns include source, row and original, durably.
    pub fn correct(&self, rows: &RecordBatch) -> Result<PathBuf> {
        let number = 1 + self.corrected_files()?.iter().filter_map(|path| number(path)).max().unwrap_or(0);
        let all = (0..rows.num_rows()).map(|row| original(rows, row)).collect::<Vec<_>>().join("\n");
        let path =
            self.folder.join(CORRECTED).join(format!("{number:06}-{}.parquet", Digest::of(all.as_bytes()).short()));
        write(&path, rows)?;
        Ok(path)
    }

    /// Takes rows out of the files in which they wait. A file without rows goes.
    pub fn release(&self, origins: &HashSet<Origin>) -> Result<()> {
        for path in self.files()? {
            let rows = storage::engine::read_file(&path)?;
            let stays: Vec<bool> =
                self::origins(&rows, &path)?.iter().map(|origin| !origins.contains(origin)).collect();
            let left = stays.iter().filter(|stays| **stays).count();
            match left {
                0 => std::fs::remove_file(&path).with_context(|| format!("can't remove {}", path.display()))?,
                _ if left < stays.len() => write(&path, &filter_record_batch(&rows, &stays.into())?)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The corrections of rows of `source`, as far as they keep the contract; of all files or only of those named.
    pub fn corrections(
        &self,
        contract: &Contract,
        enforcer: &Enforcer,
        source: &str,
        columns: &[String],
        files: Option<&[String]>,
    ) -> Result<Corrections> {
        let mut known = Corrections::default();
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut rows = 0;
        for path in self.corrected_files()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if files.is_some_and(|files| !files.contains(&name)) {
                continue;
            }
            let read = storage::engine::read_file(&path)?;
            // Those of batch scoring have the model's inputs alone.
            if columns.iter().any(|column| read.column_by_name(column).is_none()) {
                continue;
            }
            let origins = origins(&read, &path)?;
            let canonical = features::canonical_columns(&read, contract, columns)
                .with_context(|| format!("{} does not fit contract \"{}\"", path.display(), contract.name))?;
            let enforced = enforcer.enforce(&canonical, &mut Violations::default())?;
            for (place, row) in enforced.kept.iter().enumerate() {
                let origin = &origins[*row as usize];
                if origin.source == source {
                    // A later correction of the same row takes the earlier one's place.
                    known.by_place.insert((origin.row, origin.original.clone()), rows + place);
                    known.by_value.insert(origin.original.clone(), rows + place);
                }
            }
            rows += enforced.batch.num_rows();
            batches.push(enforced.batch);
            known.files.push(name);
        }
        if let Some(first) = batches.first() {
            known.rows = Some(concat_batches(&first.schema(), &batches)?);
        }
        Ok(known)
    }
}

impl Corrections {
    /// Puts corrected rows in the place of those that were set aside, and gives how many. `batch` holds the rows as they
    /// were read, `place` says where a row of it stands in the source.
    pub fn mend(
        &self,
        batch: &RecordBatch,
        place: &dyn Fn(usize) -> u64,
        enforced: Enforced,
    ) -> Result<(Enforced, u64)> {
        let Some(known) = self.rows.as_ref().filter(|_| !self.by_value.is_empty()) else { return Ok((enforced, 0)) };
        let mut mended: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
        for row in enforced.quarantined.iter().map(|entry| entry.row) {
            let original = original(batch, row);
            let by_value = self.by_value.get(&original);
            let found = self.by_place.get(&(place(row) as i64, original)).or(by_value);
            mended.extend(found.map(|corrected| (row as u32, (1, *corrected))));
        }
        if mended.is_empty() {
            return Ok((enforced, 0));
        }
        let count = mended.len() as u64;
        let quarantined = enforced.quarantined.into_iter().filter(|entry| !mended.contains_key(&(entry.row as u32)));
        let quarantined = quarantined.collect();
        mended.extend(enforced.kept.iter().enumerate().map(|(at, row)| (*row, (0, at))));
        let (kept, sources): (Vec<u32>, Vec<(usize, usize)>) = mended.into_iter().unzip();
        let names = enforced.batch.schema();
        let places = names.fields().iter().map(|field| known.schema().index_of(field.name()));
        let known = known.project(&places.collect::<Result<Vec<_>, _>>()?)?;
        let known = RecordBatch::try_new(names, known.columns().to_vec())?;
        let batch = interleave_record_batch(&[&enforced.batch, &known], &sources)?;
        Ok((Enforced { batch, kept, rejected: enforced.rejected, quarantined }, count))
    }
}

impl Aside {
    /// Takes the rows that were set aside of `batch`, as they were read.
    pub fn add(&mut self, batch: &RecordBatch, place: &dyn Fn(usize) -> u64, entries: &[Rejected]) -> Result<()> {
        let mut reasons: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for entry in entries {
            reasons.entry(entry.row).or_default().push(format!("{}: {}", entry.column, entry.what));
        }
        if reasons.is_empty() {
            return Ok(());
        }
        let rows: UInt32Array = reasons.keys().map(|row| Some(*row as u32)).collect();
        self.rows.push(take_record_batch(batch, &rows)?);
        self.places.extend(reasons.keys().map(|row| place(*row)));
        self.reasons.extend(reasons.into_values().map(|reasons| reasons.join("; ")));
        Ok(())
    }

    /// Adds what was collected of later rows of the same source.
    pub fn append(&mut self, later: Aside) {
        self.rows.extend(later.rows);
        self.places.extend(later.places);
        self.reasons.extend(later.reasons);
    }

    pub fn rows(&self) -> usize {
        self.places.len()
    }
}

/// The digest of what a row holds, begun with letters, so that no reader takes it for a number.
fn original(rows: &RecordBatch, row: usize) -> String {
    let mut values = features::row_to_json(rows, row);
    [SOURCE, ROW, REASON, ORIGINAL].iter().for_each(|name| drop(values.remove(*name)));
    let text = serde_json::Value::Object(values).to_string();
    format!("was-{}", Digest::of(text.as_bytes()).short())
}

/// Where each row of a file came from.
pub fn origins(rows: &RecordBatch, path: &Path) -> Result<Vec<Origin>> {
    let column = |name: &str| {
        rows.column_by_name(name).with_context(|| {
            format!(
                "{} has no column \"{name}\"; keep the columns {SOURCE}, {ROW} and {ORIGINAL} when correcting rows",
                path.display()
            )
        })
    };
    let text = |name: &str| -> Result<StringArray> {
        Ok(arrow::compute::cast(column(name)?, &arrow::datatypes::DataType::Utf8)?.as_string::<i32>().clone())
    };
    let (source, original) = (text(SOURCE)?, text(ORIGINAL)?);
    let row = arrow::compute::cast(column(ROW)?, &arrow::datatypes::DataType::Int64)?;
    let row = row.as_primitive::<Int64Type>();
    if let Some(blank) = (0..rows.num_rows()).find(|i| source.is_null(*i) || original.is_null(*i) || row.is_null(*i)) {
        bail!("{}, row {blank}: {SOURCE}, {ROW} or {ORIGINAL} is empty; leave them as they were", path.display());
    }
    let origin = |i: usize| Origin {
        source: source.value(i).to_owned(),
        row: row.value(i),
        original: original.value(i).to_owned(),
    };
    Ok((0..rows.num_rows()).map(origin).collect())
}

/// The rows with some columns more, or other ones under the same names.
pub fn with_columns<'a>(
    rows: &RecordBatch,
    columns: impl IntoIterator<Item = (&'a str, ArrayRef)>,
) -> Result<RecordBatch> {
    let schema = rows.schema();
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    let mut arrays = rows.columns().to_vec();
    for (name, array) in columns {
        let field = Arc::new(Field::new(name, array.data_type().clone(), true));
        match fields.iter().position(|field| field.name() == name) {
            Some(place) => (fields[place], arrays[place]) = (field, array),
            None => {
                fields.push(field);
                arrays.push(array);
            }
        }
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// Writes a whole Parquet file in the place of another, or leaves that one.
pub fn write(path: &Path, rows: &RecordBatch) -> Result<()> {
    let folder = path.parent().context("a file of rows has a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("can't create {}", folder.display()))?;
    let beside = folder.join(format!(".{}.tmp", std::process::id()));
    let mut writer = TableWriter::create(&beside, Format::Parquet, &rows.schema())?;
    writer.write(rows)?;
    Ok(writer.finish(path, &[])?)
}

fn parquet_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).collect();
    found.sort();
    Ok(found)
}

fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.split('-').next()?.parse().ok()
}

/// A source's name as a file's: its last part, with nothing odd in it.
fn stem(source: &str) -> String {
    let last = Path::new(source).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Float64Array;
    use arrow::datatypes::Float64Type;
    use vocabulary::{Column, ColumnKind, Repair};

    fn contract() -> Contract {
        let range = Some([0.0, 10.0]);
        let price = Column { range, repair: Repair::Quarantine, ..Column::new("price", ColumnKind::Float) };
        Contract::new("c", vec![price, Column::new("shop", ColumnKind::String)])
    }

    fn columns() -> Vec<String> {
        ["price", "shop"].map(str::to_owned).to_vec()
    }

    fn table(prices: &[f64]) -> RecordBatch {
        let shops = prices.iter().enumerate().map(|(place, _)| format!("s{place}"));
        RecordBatch::try_from_iter_with_nullable([
            ("price", Arc::new(Float64Array::from(prices.to_vec())) as ArrayRef, true),
            ("shop", Arc::new(StringArray::from_iter_values(shops)) as _, true),
        ])
        .unwrap()
    }

    fn place(row: usize) -> u64 {
        100 + row as u64
    }

    fn enforced(rows: &RecordBatch) -> Enforced {
        let enforcer = Enforcer::new(&contract(), &columns()).unwrap();
        enforcer.enforce(rows, &mut Violations::default()).unwrap()
    }

    fn set_aside(quarantine: &Quarantine, rows: &RecordBatch) -> Vec<PathBuf> {
        let mut aside = Aside::default();
        aside.add(rows, &place, &enforced(rows).quarantined).unwrap();
        quarantine.keep("data/t.csv", aside).unwrap();
        quarantine.files().unwrap()
    }

    fn corrections(quarantine: &Quarantine, source: &str) -> Corrections {
        let enforcer = Enforcer::new(&contract(), &columns()).unwrap();
        quarantine.corrections(&contract(), &enforcer, source, &columns(), None).unwrap()
    }

    fn prices(rows: &RecordBatch) -> Vec<f64> {
        rows.column(0).as_primitive::<Float64Type>().values().to_vec()
    }

    #[test]
    fn a_corrected_row_takes_its_old_place_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let quarantine = Quarantine { folder: folder.path().join("c") };
        let rows = table(&[1.0, -1.0, 3.0, -2.0]);
        let files = set_aside(&quarantine, &rows);
        assert_eq!(files.len(), 1);
        assert_eq!(set_aside(&quarantine, &rows), files, "what waits already is not kept twice");
        let waiting = storage::engine::read_file(&files[0]).unwrap();
        let origins = origins(&waiting, &files[0]).unwrap();
        assert_eq!(origins.iter().map(|origin| origin.row).collect::<Vec<_>>(), [101, 103]);

        // The second row is corrected, the first is not.
        let mended: ArrayRef = Arc::new(Float64Array::from(vec![5.0]));
        let corrected = with_columns(&waiting.slice(1, 1), [("price", mended)]).unwrap();
        quarantine.correct(&corrected).unwrap();
        quarantine.release(&HashSet::from([origins[1].clone()])).unwrap();
        assert_eq!(storage::engine::read_file(&files[0]).unwrap().num_rows(), 1);
        let known = corrections(&quarantine, "data/t.csv");
        let (whole, count) = known.mend(&rows, &place, enforced(&rows)).unwrap();
        assert_eq!((prices(&whole.batch), whole.kept, count), (vec![1.0, 3.0, 5.0], vec![0, 2, 3], 1));
        assert_eq!(whole.quarantined.iter().map(|entry| entry.row).collect::<Vec<_>>(), [1]);
        quarantine.release(&HashSet::from([origins[0].clone()])).unwrap();
        assert!(quarantine.files().unwrap().is_empty());

        // A source that has grown adds its new rows alone.
        set_aside(&quarantine, &rows);
        let files = set_aside(&quarantine, &table(&[1.0, -1.0, 3.0, -2.0, -3.0]));
        let waiting: usize = files.iter().map(|path| storage::engine::read_file(path).unwrap().num_rows()).sum();
        assert_eq!((files.len(), waiting), (2, 3));

        // Another source, or other values at that place, are not what was corrected.
        let other = corrections(&quarantine, "data/u.csv");
        assert_eq!(other.mend(&rows, &place, enforced(&rows)).unwrap().1, 0);
        let changed = table(&[1.0, -1.0, 3.0, -2.5]);
        assert_eq!(known.mend(&changed, &place, enforced(&changed)).unwrap().1, 0);
    }

    #[test]
    fn a_later_correction_wins_and_one_that_breaks_the_contract_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let quarantine = Quarantine { folder: folder.path().join("c") };
        let rows = table(&[-1.0]);
        let files = set_aside(&quarantine, &rows);
        let waiting = storage::engine::read_file(&files[0]).unwrap();
        let use_of = |price: f64| {
            let price: ArrayRef = Arc::new(Float64Array::from(vec![price]));
            quarantine.correct(&with_columns(&waiting, [("price", price)]).unwrap()).unwrap();
            let (whole, _) = corrections(&quarantine, "data/t.csv").mend(&rows, &place, enforced(&rows)).unwrap();
            prices(&whole.batch)
        };
        assert_eq!(use_of(4.0), [4.0]);
        assert_eq!(use_of(6.0), [6.0]);
        assert_eq!(use_of(99.0), [6.0]);
        let enforcer = Enforcer::new(&contract(), &columns()).unwrap();
        let first: Vec<String> = corrections(&quarantine, "data/t.csv").files[..1].to_vec();
        let then = quarantine.corrections(&contract(), &enforcer, "data/t.csv", &columns(), Some(&first)).unwrap();
        let (whole, _) = then.mend(&rows, &place, enforced(&rows)).unwrap();
        assert_eq!(prices(&whole.batch), [4.0], "what was known then");
    }
}
