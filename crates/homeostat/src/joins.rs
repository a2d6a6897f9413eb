//! `[[data.joins]]`: the columns of other tables beside a model's rows, as they were known at each row's time. For the
//! model's own data alone: a request, or a file that is scored, brings its columns itself.

use crate::project::Project;
use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, RecordBatch};
use features::windows::with_columns;
use features::{Asof, AsofColumns};
use vocabulary::contract::{Column, ColumnKind};
use vocabulary::model::JoinSpec;
use vocabulary::{Contract, ModelSpec};

/// The rows with the columns of all declared joins, in their order.
pub async fn joined(project: &Project, spec: &ModelSpec, rows: RecordBatch) -> Result<RecordBatch> {
    let mut rows = rows;
    for join in &spec.data.joins {
        let more = columns(project, spec, join, &rows).await;
        let more = more.with_context(|| format!("model \"{}\": data.joins \"{}\"", spec.name, join.name))?;
        rows = with_columns(&rows, more)?;
    }
    Ok(rows)
}

async fn columns(
    project: &Project,
    spec: &ModelSpec,
    join: &JoinSpec,
    rows: &RecordBatch,
) -> Result<Vec<(String, ArrayRef)>> {
    let contract = project.contract_of(spec);
    let at = join.instant(spec.time.as_ref()).context("it needs at, or the model's time")?;
    let needed: Vec<String> = join.on.keys().chain([at]).cloned().collect();
    let left = features::canonical_columns(rows, contract, &needed)?;
    let keys: Vec<ArrayRef> = left.columns()[..join.on.len()].to_vec();
    let right = right(contract, join)?;
    let roles = AsofColumns {
        key: join.on.values().cloned().collect(),
        time: join.time.clone(),
        known_at: join.known_at.clone(),
        values: join.columns.values().cloned().collect(),
    };
    let mut asof = Asof::new(&keys, &left.columns()[join.on.len()], roles, join.tolerance)?;
    let names: Vec<String> = right.column_names().map(str::to_owned).collect();
    let mut each = |batch: RecordBatch| -> Result<()> {
        Ok(asof.add(&features::canonical(&batch, &right).context("the right table")?)?)
    };
    storage::engine::scan(&project.root, &join.source(), &names, &mut each).await?;
    // The types of what is taken, for a table without rows.
    let schema = features::canonical_schema(&right);
    let empty = |name: &String| schema.field_with_name(name).map(|f| arrow::array::new_empty_array(f.data_type()));
    let empty = join.columns.values().map(empty).collect::<Result<Vec<_>, _>>()?;
    let (values, counts) = asof.finish(&empty)?;
    if counts.incomplete > 0 {
        let (incomplete, rows) = (counts.incomplete, counts.rows);
        tracing::warn!(
            "data.joins \"{}\": {incomplete} of {rows} right rows lack key or time and are left out",
            join.name
        );
    }
    Ok(join.columns.keys().cloned().zip(values).collect())
}

/// The right table's columns with the types of the contract's that they are compared with or become.
fn right(contract: &Contract, join: &JoinSpec) -> Result<Contract> {
    let mut columns: Vec<Column> = Vec::new();
    let of_contract = join.on.iter().chain(&join.columns).map(|(ours, theirs)| {
        let kind = contract.column(ours).map_or(ColumnKind::String, |column| column.kind);
        (theirs, kind)
    });
    let times = std::iter::once(&join.time).chain(&join.known_at).map(|name| (name, ColumnKind::Timestamp));
    for (name, kind) in of_contract.chain(times) {
        match columns.iter().find(|column| column.name == *name) {
            Some(column) if column.kind != kind => {
                bail!("the right column \"{name}\" is wanted as {} and as {}", column.kind.name(), kind.name())
            }
            Some(_) => {}
            None => columns.push(Column::new(name, kind)),
        }
    }
    Ok(Contract::new(&join.name, columns))
}
