//! `release`, `rollback`, `freeze`, `thaw`: through the running server, or on the routing snapshot where none runs.

use super::versions::resolve;
use crate::cli::Release;
use crate::client::Client;
use crate::project::Project;
use crate::routing::{Deed, operated};
use crate::{clock, output};
use anyhow::{Result, bail};
use serde_json::{Value, json};
use vocabulary::Share;

pub async fn release(project: &Project, args: &Release, json: bool) -> Result<bool> {
    let version = resolve(project, &args.version).await?;
    let (number, digest) = (version.number, version.digest);
    let (deed, how) = match &args.canary {
        Some(share) => {
            let share = Share::parse(share)?;
            (Deed::Canary { version: number, digest, share }, share.to_string())
        }
        None if args.now => (Deed::Now { version: number, digest }, "now".to_owned()),
        None => (Deed::Shadow { version: number, digest }, "shadow".to_owned()),
    };
    let request = json!({ "action": "release", "version": number, "how": how });
    apply(project, &version.model, &deed, request, json).await
}

pub async fn rollback(project: &Project, model: &str, to: Option<&str>, json: bool) -> Result<bool> {
    super::versions::known(project, model).await?;
    let to = match to {
        Some(text) => {
            let version = resolve(project, text).await?;
            if version.model != model {
                bail!("{text} is a version of \"{}\", not of \"{model}\"", version.model);
            }
            Some((version.number, version.digest))
        }
        None => None,
    };
    let request = json!({ "action": "rollback", "version": to.map(|(number, _)| number) });
    apply(project, model, &Deed::RollBack { to }, request, json).await
}

pub async fn freeze(project: &Project, model: &str, freeze: bool, json: bool) -> Result<bool> {
    super::versions::known(project, model).await?;
    let deed = if freeze { Deed::Freeze } else { Deed::Thaw };
    apply(project, model, &deed, json!({ "action": deed.name() }), json).await
}

async fn apply(project: &Project, model: &str, deed: &Deed, request: Value, json: bool) -> Result<bool> {
    let route = match Client::running(&project.state()).await {
        Some(client) => client.post(&format!("/v1/models/{model}/routing"), &request).await?,
        None => {
            let next = operated(&project.routing()?, model, deed, clock::wall())?;
            let catalog = project.catalog().await?;
            crate::serve::deploy::keep(project, &catalog, &next).await?;
            crate::serve::deploy::record(&catalog, model, deed, "operator", "asked for", next.at.unwrap_or_default())
                .await?;
            json!(next.models[model])
        }
    };
    output::show(json, &route, || format!("{model}: {}; live {}", deed.name(), route["live"]["version"]))?;
    Ok(true)
}
