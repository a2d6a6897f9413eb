//! What goes to the terminal: one JSON document, or text for a person; progress goes to standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// Logs go to standard error; `HOMEOSTAT_LOG` chooses what, as `RUST_LOG` would.
pub fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HOMEOSTAT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,homeostat=info,storage=info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

/// Prints `value` as JSON when `json`, otherwise what `text` writes.
pub fn show<T: Serialize>(json: bool, value: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let rendered = if json { serde_json::to_string_pretty(value)? } else { text() };
    let mut out = std::io::stdout().lock();
    // A reader that went away (`| head`) is no failure.
    match writeln!(out, "{}", rendered.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A progress bar on standard error, where that is a terminal.
pub fn bar(message: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg:30} {bar:32} {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(message.to_owned());
    bar
}

/// Rows of text in aligned columns.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// A figure to four significant places, or a dash.
pub fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value == 0.0 || (0.001..100_000.0).contains(&value.abs()) => format!("{value:.4}"),
        Some(value) => format!("{value:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let text = table(&["a", "long"], &[vec!["wide cell".into(), "x".into()]]);
        assert_eq!(text, "a          long\nwide cell  x");
        assert_eq!(figure(Some(0.69)), "0.6900");
        assert_eq!(figure(None), "-");
    }
}
