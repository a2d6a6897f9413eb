//! The commands. Each returns whether the answer is yes.

mod check;
mod compress;
mod evaluate;
mod export;
mod import;
mod import_slo;
mod incidents;
mod init;
mod operate;
mod predict;
mod quarantine;
mod quickstart;
mod replay;
mod reproduce;
mod select;
mod stream;
mod token;
mod train;
mod tune;
mod versions;

use crate::cli::{AuditAction, Cli, Command, TokenAction};
use crate::project::Project;
use crate::{output, serve as server};
use anyhow::Result;

pub async fn run(cli: Cli) -> Result<bool> {
    let global = &cli.global;
    let json = global.json;
    let project = || Project::find(&global.project)?.in_environment(global.env.as_deref());
    match cli.command {
        Command::Quickstart(args) => quickstart::run(args, json).await,
        Command::Init(args) => init::run(&args, json),
        Command::Check(args) => check::run(&project()?, &args, json).await,
        Command::Quarantine { action } => quarantine::run(&project()?, &action, json),
        Command::Train(args) => train::run(&project()?, &args, json).await,
        Command::Job { id } => train::job(&project()?, &id).await,
        Command::Tune(args) => tune::run(&project()?, &args, json).await,
        Command::Compress(args) => compress::run(&project()?, &args, json).await,
        Command::Select(args) => select::run(&project()?, &args, json).await,
        Command::Export { version, out, matrices } => export::run(&project()?, &version, &out, matrices, json).await,
        Command::Reproduce { version, threads } => reproduce::run(&project()?, &version, threads, json).await,
        Command::Evaluate(args) => evaluate::evaluate(&project()?, &args, json).await,
        Command::Compare(args) => evaluate::compare(&project()?, &args, json).await,
        Command::Predict(args) => predict::run(&project()?, &args, json).await,
        Command::Import(args) => import::run(&project()?, &args, json).await,
        Command::Token { action: TokenAction::Create { role: _, tenant } } => token::create(&project()?, &tenant, json),
        Command::Stream { action } => stream::run(&project()?, &action, json).await,
        Command::Versions { model } => versions::list(&project()?, model.as_deref(), json).await,
        Command::Show(args) => versions::show(&project()?, &args, json).await,
        Command::Lineage { version } => versions::lineage(&project()?, &version, json).await,
        Command::Serve(args) => serve(project()?, &args).await,
        Command::Release(args) => operate::release(&project()?, &args, json).await,
        Command::Rollback { model, to } => operate::rollback(&project()?, &model, to.as_deref(), json).await,
        Command::Freeze { model } => operate::freeze(&project()?, &model, true, json).await,
        Command::Thaw { model } => operate::freeze(&project()?, &model, false, json).await,
        Command::Replay { ids, sample, seed } => replay::run(&project()?, &ids, sample, seed, json).await,
        Command::Status { model } => versions::status(&project()?, model.as_deref(), json).await,
        Command::Incidents { id } => incidents::incidents(&project()?, id.as_deref(), json).await,
        Command::ImportSlo { file, model } => import_slo::run(&project()?, &file, model.as_deref(), json),
        Command::Drill { name } => incidents::drill(&project()?, &name, json),
        Command::Findings => findings(&project()?, json).await,
        Command::Audit { action } => audit(&project()?, action, json).await,
    }
}

async fn serve(project: Project, args: &crate::cli::Serve) -> Result<bool> {
    if args.with_parent {
        end_with_parent();
    }
    server::run(project, args.port, args.grpc_port).await?;
    Ok(true)
}

/// Asks the system to end this process when the one that started it ends.
pub fn end_with_parent() {
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM)) {
        tracing::warn!("this process will outlive the one that started it: {error}");
    }
}

async fn findings(project: &Project, json: bool) -> Result<bool> {
    let findings = project.catalog().await?.findings().await?;
    output::show(json, &findings, || {
        let rows: Vec<Vec<String>> = findings
            .iter()
            .map(|f| {
                let alarm = if f.kind.is_alarm() { "alarm" } else { "" };
                vec![f.at.to_string(), alarm.into(), f.model.clone(), f.kind.name().into(), f.message.clone()]
            })
            .collect();
        output::table(&["at", "", "model", "kind", "what"], &rows)
    })?;
    Ok(true)
}

async fn audit(project: &Project, action: Option<AuditAction>, json: bool) -> Result<bool> {
    let catalog = project.catalog().await?;
    if let Some(AuditAction::Verify) = action {
        let verified = catalog.verify_audit().await?;
        let body = match &verified {
            Ok(entries) => serde_json::json!({ "entries": entries, "whole": true }),
            Err(problem) => serde_json::json!({ "whole": false, "problem": problem }),
        };
        output::show(json, &body, || match &verified {
            Ok(entries) => format!("{entries} entries, each continues the one before it"),
            Err(problem) => format!("the audit log was changed: {problem}"),
        })?;
        return Ok(verified.is_ok());
    }
    let entries = catalog.audit(0).await?;
    output::show(json, &entries, || {
        let rows: Vec<Vec<String>> = entries
            .iter()
            .map(|e| {
                vec![
                    e.sequence.to_string(),
                    e.at.to_string(),
                    e.actor.clone(),
                    e.action.clone(),
                    e.subject.clone(),
                    e.because.clone(),
                ]
            })
            .collect();
        output::table(&["#", "at", "who", "did", "to", "because"], &rows)
    })?;
    Ok(true)
}
