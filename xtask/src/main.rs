//! Checks of the repository itself: layers, paths that documents name, files' openings. `cargo xtask tidy`.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What each crate may depend on among ours, and crates from outside that it must never name.
const LAYERS: [(&str, &[&str], &[&str]); 9] = [
    ("vocabulary", &[], &["tokio", "axum", "hyper", "sqlx", "arrow", "datafusion"]),
    ("features", &["vocabulary"], &["tokio", "axum", "hyper", "sqlx", "parquet", "datafusion"]),
    ("inference", &["vocabulary"], &["tokio", "axum", "hyper", "sqlx", "arrow", "datafusion"]),
    ("control", &["vocabulary"], &["tokio", "axum", "hyper", "sqlx", "arrow", "datafusion", "chrono", "rand"]),
    ("learning", &["vocabulary", "features", "inference"], &["tokio", "axum", "hyper", "sqlx", "datafusion"]),
    ("storage", &["vocabulary", "features"], &["axum", "hyper", "hessboost"]),
    ("serving", &["vocabulary", "inference"], &["sqlx", "arrow", "parquet", "datafusion"]),
    ("homeostat", &["vocabulary", "features", "inference", "control", "learning", "storage", "serving"], &[]),
    (
        "simulation",
        &["vocabulary", "features", "inference", "control", "learning", "storage", "serving"],
        &["tokio", "axum", "hyper", "chrono", "rand"],
    ),
];

/// Longer files are more than one thing.
const LINES_MAX: usize = 700;

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let outcome = match task.as_str() {
        "tidy" => tidy(&root()),
        _ => Err(anyhow::anyhow!("cargo xtask tidy")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

fn tidy(root: &Path) -> Result<()> {
    let mut problems = layers(root)?;
    problems.extend(named_paths(root)?);
    problems.extend(openings(root)?);
    if problems.is_empty() {
        println!("layers, paths and openings are in order");
        return Ok(());
    }
    bail!("{}", problems.join("\n"))
}

/// Crates that depend on what their layer denies.
fn layers(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let ours: BTreeSet<&str> = LAYERS.iter().map(|(name, _, _)| *name).collect();
    for entry in std::fs::read_dir(root.join("crates"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((_, allowed, denied)) = LAYERS.iter().find(|(known, _, _)| *known == name) else {
            problems.push(format!("crates/{name} has no layer; add it to xtask"));
            continue;
        };
        let manifest = path.join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).with_context(|| format!("can't read {}", manifest.display()))?;
        let parsed: toml::Table = text.parse().with_context(|| format!("{} is not TOML", manifest.display()))?;
        for dependency in parsed.get("dependencies").and_then(|d| d.as_table()).into_iter().flatten() {
            let dependency = dependency.0.as_str();
            let wrong_layer = ours.contains(dependency) && !allowed.contains(&dependency);
            if wrong_layer || denied.contains(&dependency) {
                problems.push(format!("crates/{name} must not depend on {dependency}"));
            }
        }
    }
    Ok(problems)
}

/// Paths in code marks of ARCHITECTURE.md and README.md that do not exist.
fn named_paths(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for document in ["ARCHITECTURE.md", "README.md"] {
        let text = std::fs::read_to_string(root.join(document)).with_context(|| format!("can't read {document}"))?;
        for quoted in text.split('`').skip(1).step_by(2) {
            let path_like = ["crates/", "dashboard/", "examples/", "scripts/", "xtask/", "benches/", "docs/", ".ci/"]
                .iter()
                .any(|start| quoted.starts_with(start));
            if path_like && !quoted.contains([' ', '*', '<', '{']) && !root.join(quoted.trim_end_matches('/')).exists()
            {
                problems.push(format!("{document} names {quoted}, which does not exist"));
            }
        }
    }
    Ok(problems)
}

/// Rust files that do not open with their purpose, or are too long.
fn openings(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut folders = vec![root.join("crates"), root.join("xtask")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path)?;
                let shown = path.strip_prefix(root).unwrap_or(&path).display();
                if !text.starts_with("//!") {
                    problems.push(format!("{shown} does not open with its purpose (//!)"));
                }
                if text.lines().count() > LINES_MAX {
                    problems.push(format!("{shown} has more than {LINES_MAX} lines"));
                }
            }
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_keeps_to_its_layer() {
        assert_eq!(layers(&root()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn documents_name_what_exists_and_files_open_with_their_purpose() {
        assert_eq!(named_paths(&root()).unwrap(), Vec::<String>::new());
        assert_eq!(openings(&root()).unwrap(), Vec::<String>::new());
    }
}
