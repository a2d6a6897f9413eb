//! The dashboard is embedded. Where it was not built (a plain `cargo build`), a page that says so takes its place.

use std::path::Path;

const PAGE: &str = "<!doctype html><title>Homeostat</title><p>The dashboard was not built into this program. \
Run <code>make build</code>. The API is described in <a href=\"/openapi.json\">/openapi.json</a>.</p>\n";

fn main() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboard/dist");
    println!("cargo::rerun-if-changed={}", dist.display());
    let page = dist.join("index.html");
    if !page.exists() {
        let written = std::fs::create_dir_all(&dist).and_then(|()| std::fs::write(&page, PAGE));
        if let Err(error) = written {
            println!("cargo::error=can't write {}: {error}", page.display());
        }
    }
}
