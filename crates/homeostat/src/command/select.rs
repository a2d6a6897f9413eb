//! `select`: which columns say something about the target, which are noise, and what accuracy each number of columns buys.

use crate::cli::Select;
use crate::output;
use crate::project::Project;
use crate::training::{self, Order};
use anyhow::Result;
use learning::select::{SelectProgress, SelectRequest, Selection};
use serde_json::json;
use vocabulary::model::LearnerKind;

/// Permutations of a column whose mean is its importance.
const REPEATS: u32 = 5;

pub async fn run(project: &Project, args: &Select, json: bool) -> Result<bool> {
    let spec = match &args.model {
        Some(name) => project.model(name)?,
        None => project.only_model()?,
    };
    let order = Order { model: spec.name.clone(), seed: args.seed, ..Order::default() };
    let set = training::training_set(project, spec, &order).await?;
    let bar = output::bar("selecting");
    let progress = |step: SelectProgress| {
        bar.set_length(step.total);
        bar.set_position(step.done);
        bar.set_message(format!("{:?}", step.stage).to_lowercase());
    };
    let selection = learning::select::run(&SelectRequest {
        spec,
        contract: project.contract_of(spec),
        rows: &set.rows,
        learner: args.learner.map_or(spec.learner.kind, LearnerKind::from),
        seed: args.seed,
        threads: training::threads(args.threads),
        repeats: REPEATS,
        shuffles: args.shuffles,
        sizes: Vec::new(),
        tolerance: args.tolerance,
        progress: &progress,
    });
    bar.finish_and_clear();
    let selection = selection?;
    let mut shown = json!(selection);
    shown["model"] = json!(spec.name);
    output::show(json, &shown, || text(&selection))?;
    Ok(true)
}

fn text(selection: &Selection) -> String {
    let columns: Vec<Vec<String>> = selection
        .columns
        .iter()
        .map(|column| {
            let importance = column.importance.as_ref();
            let what = match (&column.repeats, column.kept) {
                (Some(other), _) => format!("repeats {other}"),
                (None, true) => "kept".to_owned(),
                (None, false) => "no better than chance".to_owned(),
            };
            vec![
                column.name.clone(),
                what,
                output::figure(importance.map(|found| found.mean)),
                output::figure(importance.map(|found| found.shuffled_largest)),
                output::figure(column.mutual_information),
            ]
        })
        .collect();
    let curve: Vec<Vec<String>> = selection
        .curve
        .iter()
        .map(|point| {
            vec![
                point.columns.to_string(),
                format!("{:.5}", point.loss),
                format!("{:.2}", point.seconds_per_1000_rows * 1e3),
                point.model_bytes.to_string(),
            ]
        })
        .collect();
    let proposal: Vec<String> = selection.proposal.columns.iter().map(|name| format!("\"{name}\"")).collect();
    let mut text = format!(
        "{}\n\n{}\n\n[features]\ncolumns = [{}]   # validation loss {:.5}; {:.5} with all",
        output::table(&["column", "", "importance", "largest by chance", "information"], &columns),
        output::table(&["columns", "validation loss", "ms for 1000 rows", "bytes"], &curve),
        proposal.join(", "),
        selection.proposal.loss,
        selection.proposal.loss_of_all,
    );
    for note in &selection.notes {
        text += &format!("\n{note}");
    }
    text
}
