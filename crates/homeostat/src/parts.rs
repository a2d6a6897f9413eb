//! The folder `OUT.parts`, where batch scoring keeps what is done, part by part, until all of it becomes OUT at once. A
//! marker says of what the parts are; parts of something else are thrown away. What is in a part is not known here.

use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use features::Violations;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use storage::parts::{Format, ParquetFile, TableWriter};

const MARKER: &str = "of.json";
const LOCK: &str = "lock";
/// What is not whole yet.
const BESIDE: &str = "unfinished";
const PART: &str = "part-";
const VIOLATIONS: &str = "homeostat.violations";

/// The folder, held against other processes.
pub struct Parts {
    folder: PathBuf,
    _lock: File,
}

/// What is known of a part that is done.
pub struct Done {
    /// Rows with an answer.
    pub rows: u64,
    pub violations: Violations,
}

impl Parts {
    /// The folder beside `out`, with the parts that are there for this very marker.
    pub fn open(out: &Path, marker: &Value) -> Result<Parts> {
        let mut name = out.file_name().context("--out names no file")?.to_owned();
        name.push(".parts");
        let folder = out.with_file_name(name);
        fs::create_dir_all(&folder).with_context(|| format!("can't create {}", folder.display()))?;
        let names = names(&folder)?;
        if let Some(foreign) = names.iter().find(|name| !is_ours(name)) {
            bail!(
                "{} is where the parts of {} would be kept, but holds \"{foreign}\"; move it, or name another --out",
                folder.display(),
                out.display()
            );
        }
        let lock = File::create(folder.join(LOCK)).with_context(|| format!("can't write in {}", folder.display()))?;
        if lock.try_lock().is_err() {
            bail!("another process writes {} already; wait for it, or name another --out", out.display());
        }
        let parts = Parts { folder, _lock: lock };
        let place = parts.folder.join(MARKER);
        let known = fs::read(&place).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        if known.as_ref() != Some(marker) {
            for name in names.iter().filter(|name| *name != LOCK) {
                let path = parts.folder.join(name);
                fs::remove_file(&path).with_context(|| format!("can't remove {}", path.display()))?;
            }
            storage::write_atomically(&place, &serde_json::to_vec(marker)?)?;
        }
        Ok(parts)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{PART}{number:08}.parquet"))
    }

    /// A part, where it is there.
    pub fn done(&self, number: u64) -> Option<Done> {
        let path = self.path(number);
        if !path.exists() {
            return None;
        }
        let file = ParquetFile::open(&path).ok()?;
        let violations = serde_json::from_str(file.note(VIOLATIONS)?).ok()?;
        Some(Done { rows: file.rows(), violations })
    }

    pub fn keep(
        &self,
        number: u64,
        schema: &SchemaRef,
        batches: &[RecordBatch],
        violations: &Violations,
    ) -> Result<()> {
        let mut writer = TableWriter::create(&self.folder.join(BESIDE), Format::Parquet, schema)?;
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        Ok(writer.finish(&self.path(number), &[(VIOLATIONS, serde_json::to_string(violations)?)])?)
    }

    /// Makes `out` of the parts `0 .. count`, and removes them.
    pub fn join(self, count: u64, schema: &SchemaRef, out: &Path, format: Format) -> Result<()> {
        let mut writer = TableWriter::create(&self.folder.join(BESIDE), format, schema)?;
        let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        for number in 0..count {
            let part = ParquetFile::open(&self.path(number))?;
            for batch in part.batches(0..part.rows(), &columns)? {
                writer.write(&batch?)?;
            }
        }
        writer.finish(out, &[])?;
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!("{} could not be removed: {error}", self.folder.display());
        }
        Ok(())
    }
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let listed = fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let listed = listed.with_context(|| format!("can't read {}", folder.display()))?;
    Ok(listed.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

fn is_ours(name: &str) -> bool {
    let part = name.strip_prefix(PART).and_then(|name| name.strip_suffix(".parquet"));
    part.is_some_and(|number| number.parse::<u64>().is_ok())
        || [MARKER, LOCK, BESIDE].contains(&name)
        || name.starts_with(&format!(".{MARKER}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use serde_json::json;
    use std::sync::Arc;

    fn batch(values: std::ops::Range<i64>) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(values)) as ArrayRef)]).unwrap()
    }

    #[test]
    fn parts_stay_for_the_same_work_only_and_become_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.csv");
        std::fs::write(&out, "the one before").unwrap();
        let schema = batch(0..0).schema();
        let violations = Violations { rows: 3, ..Violations::default() };
        let parts = Parts::open(&out, &json!(1)).unwrap();
        parts.keep(0, &schema, &[batch(0..1), batch(1..3)], &violations).unwrap();
        let said = Parts::open(&out, &json!(1)).err().unwrap().to_string();
        assert!(said.contains("another process"), "{said}");
        drop(parts);

        let parts = Parts::open(&out, &json!(1)).unwrap();
        let done = parts.done(0).unwrap();
        assert_eq!((done.rows, done.violations), (3, violations));
        drop(parts);
        let parts = Parts::open(&out, &json!(2)).unwrap();
        assert!(parts.done(0).is_none(), "a part of other work");
        parts.keep(0, &schema, &[batch(5..7)], &Violations::default()).unwrap();
        parts.keep(1, &schema, &[], &Violations::default()).unwrap();
        parts.keep(2, &schema, &[batch(7..8)], &Violations::default()).unwrap();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "the one before");
        parts.join(3, &schema, &out, Format::Csv).unwrap();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "n\n5\n6\n7\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_others_keep_there_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("out.csv.parts/part-of-mine.txt");
        std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
        std::fs::write(&kept, "mine").unwrap();
        let said = Parts::open(&folder.path().join("out.csv"), &json!(1)).err().unwrap().to_string();
        assert!(said.contains("part-of-mine.txt"), "{said}");
        assert_eq!(std::fs::read_to_string(kept).unwrap(), "mine");
    }
}
