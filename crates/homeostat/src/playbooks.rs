//! The project's playbooks: read from `playbooks/*.toml`, checked by themselves, against each other and against the models.

use crate::project::{read_toml, toml_files};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;
use vocabulary::{ModelSpec, Playbook, suggest};

/// What `init` writes: one playbook for each trouble that every project has sooner or later.
pub const BUILT_IN: [(&str, &str); 6] = [
    ("bad_release", include_str!("playbooks/bad_release.toml")),
    ("full_disk", include_str!("playbooks/full_disk.toml")),
    ("label_outage", include_str!("playbooks/label_outage.toml")),
    ("slow_dependency", include_str!("playbooks/slow_dependency.toml")),
    ("source_interruption", include_str!("playbooks/source_interruption.toml")),
    ("surge", include_str!("playbooks/surge.toml")),
];

/// All playbooks of a project in the order of their names. A playbook that contradicts itself or another is an error.
pub fn load(root: &Path, models: &BTreeMap<String, ModelSpec>) -> Result<Vec<Playbook>> {
    let mut all: Vec<Playbook> = Vec::new();
    for path in toml_files(&root.join("playbooks"))? {
        let playbook: Playbook = read_toml(&path)?;
        let problems = playbook.problems();
        if !problems.is_empty() {
            bail!("{}: {}", path.display(), problems.join("; "));
        }
        if let Some(name) = playbook.when.models.iter().find(|name| !models.contains_key(*name)) {
            let hint = suggest::hint(name, models.keys().map(String::as_str));
            bail!("{}: when.models names \"{name}\", and there is no such model{hint}", path.display());
        }
        for other in &all {
            if other.name == playbook.name {
                bail!("{}: there is another playbook \"{}\"; give one another name", path.display(), other.name);
            }
            if let Some(problem) = playbook.contradiction(other) {
                bail!("{}: {problem}", path.display());
            }
        }
        all.push(playbook);
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Writes the built-in playbooks where a project has none of that name.
pub fn write_built_in(root: &Path) -> Result<()> {
    let folder = root.join("playbooks");
    std::fs::create_dir_all(&folder).with_context(|| format!("can't create {}", folder.display()))?;
    for (name, text) in BUILT_IN {
        let path = folder.join(format!("{name}.toml"));
        if !path.exists() {
            std::fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_ones_keep_every_rule() {
        let folder = tempfile::tempdir().unwrap();
        write_built_in(folder.path()).unwrap();
        let all = load(folder.path(), &BTreeMap::new()).unwrap();
        let names: Vec<&str> = all.iter().map(|playbook| playbook.name.as_str()).collect();
        assert_eq!(names, BUILT_IN.map(|(name, _)| name));
    }

    #[test]
    fn a_slip_is_an_error_with_place_and_suggestion() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("playbooks")).unwrap();
        let path = folder.path().join("playbooks/p.toml");
        let said = |text: &str| {
            std::fs::write(&path, text).unwrap();
            load(folder.path(), &BTreeMap::new()).unwrap_err().to_string()
        };
        let text = "name = \"p\"\n[when]\nfindings = [\"surge\"]\n[[do]]\nstep = \"roll_bak\"\n";
        let error = said(text);
        assert!(error.contains("line 5") && error.contains("did you mean \"roll_back\"?"), "{error}");
        let error = said(&text.replace("findings", "findigs").replace("roll_bak", "page"));
        assert!(error.contains("did you mean \"findings\"?"), "{error}");
        let error = said(
            &text
                .replace("findings = [\"surge\"]", "models = [\"x\"]\nseverity = \"page\"")
                .replace("roll_bak", "page"),
        );
        assert!(error.contains("no such model"), "{error}");
    }
}
