//! `token create`: a new key for a tenant. The file gets its digest; the key itself is shown once.

use crate::output;
use crate::project::{FILE, Project};
use crate::serve::data_plane::secret;
use anyhow::{Context, Result, bail};
use serde_json::json;
use serving::plane::hex;
use serving::tenant::{Tenants, digest_of};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

pub fn create(project: &Project, tenant: &str, json: bool) -> Result<bool> {
    let path = project.root.join(FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let mut document: DocumentMut = text.parse().with_context(|| format!("{} is not TOML", path.display()))?;
    let key = format!("hs_{}", hex(&secret()));
    let is_first = add(&mut document, tenant, &digest_of(&key))?;
    let changed = document.to_string();
    let config: crate::project::Config = toml::from_str(&changed).context("the changed file would not be read back")?;
    if let Some(problem) = Tenants::problems(&config.tenants).first() {
        bail!("{}: {problem}", path.display());
    }
    storage::write_atomically(&path, changed.as_bytes())?;
    let note = if is_first {
        "from the next start of the server on every request needs a key"
    } else {
        "a running server knows it within a second"
    };
    let shown = json!({ "tenant": tenant, "role": "client", "key": key, "note": note });
    output::show(json, &shown, || {
        format!("key of tenant \"{tenant}\", shown only now: {key}\nits digest is in {}; {note}", path.display())
    })?;
    Ok(true)
}

/// Adds the digest to the tenant, which is made where it is not declared yet. Returns whether it is the first tenant.
fn add(document: &mut DocumentMut, tenant: &str, digest: &str) -> Result<bool> {
    let tenants = document.entry("tenants").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    let tenants = tenants.as_array_of_tables_mut().context("[[tenants]] must be a list of tables")?;
    let is_first = tenants.is_empty();
    let known = tenants.iter_mut().find(|table| table.get("name").and_then(Item::as_str) == Some(tenant));
    match known {
        Some(table) => {
            let keys = table.entry("keys").or_insert(value(Array::new()));
            keys.as_array_mut().context("keys must be a list")?.push(digest);
        }
        None => {
            let mut table = Table::new();
            table.insert("name", value(tenant));
            table.insert("keys", value(Array::from_iter([digest])));
            tenants.push(table);
        }
    }
    Ok(is_first)
}
