//! The bundled example, laid out as a project.

use crate::cli::Quickstart;
use anyhow::{Context, Result, bail};
use rust_embed::RustEmbed;
use std::path::Path;

#[derive(RustEmbed)]
#[folder = "../../examples/flights"]
struct Flights;

/// Writes the project's files where they are not there yet, and this run's settings into `homeostat.toml`.
pub fn lay_out(args: &Quickstart) -> Result<()> {
    let root = &args.dir;
    if args.fresh && root.join(crate::project::FILE).exists() {
        let state = root.join(".homeostat");
        if state.exists() {
            std::fs::remove_dir_all(&state).with_context(|| format!("can't remove {}", state.display()))?;
        }
    }
    if root.exists() && !root.join(crate::project::FILE).exists() && !is_empty(root) {
        bail!("{} holds something that is no project; choose another --dir", root.display());
    }
    for name in Flights::iter() {
        let path = root.join(name.as_ref());
        if path.exists() || name.ends_with(".py") || name.starts_with(".homeostat") {
            continue;
        }
        let file = Flights::get(&name).with_context(|| format!("{name} is not in this program"))?;
        storage::write_atomically(&path, &file.data)?;
    }
    settle(root, args)
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn settle(root: &Path, args: &Quickstart) -> Result<()> {
    let path = root.join(crate::project::FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let mut document: toml_edit::DocumentMut =
        text.parse().with_context(|| format!("{} is not TOML", path.display()))?;
    document["server"]["port"] = toml_edit::value(i64::from(args.port));
    document["control"]["seed"] = toml_edit::value(args.seed as i64);
    document["control"]["job_threads"] = toml_edit::value(args.threads as i64);
    Ok(storage::write_atomically(&path, document.to_string().as_bytes())?)
}
