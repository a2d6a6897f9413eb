//! The report as one HTML page that needs nothing else: no script, no picture, no font from elsewhere.

use super::evolution::Evolution;
use features::leakage::Leak;
use features::{Finding, Report};
use std::fmt::Write;

/// One table of rows.
pub struct Section<'a> {
    pub title: String,
    /// What was found of the rows; or why they can't be read.
    pub found: Result<(&'a Report, &'a [Leak]), &'a str>,
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;color:#1d2733;background:#fff;max-width:72rem;margin:2rem auto;\
padding:0 1rem}h1{font-size:1.4rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;width:100%;margin:1rem 0}\
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid #d8dee6}th{font-weight:600}\
code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}.s{font-weight:600;white-space:nowrap}.passed{color:#20713b}\
.skipped{color:#5a6674}.repaired{color:#1f5f99}.warned{color:#8a5a00}.refused,.failed{color:#a8202a}\
@media(prefers-color-scheme:dark){body{color:#dde3ea;background:#14181d}th,td{border-color:#333c47}.passed{color:#6fcf8e}\
.skipped{color:#9aa6b3}.repaired{color:#7db8ee}.warned{color:#e0b050}.refused,.failed{color:#f0808a}}";

/// All of it. Writing to a text cannot fail, so that what it says of failures is dropped.
pub fn page(sections: &[Section<'_>], evolution: &[Evolution]) -> String {
    let mut out = String::new();
    let is_good = |section: &Section<'_>| section.found.is_ok_and(|(report, leaks)| report.ok && leaks.is_empty());
    let good = sections.iter().all(is_good) && evolution.iter().all(Evolution::ok);
    let verdict = if good { "all is well" } else { "not all is well" };
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>Data check: {verdict}</title><style>{STYLE}</style></head>\
         <body><h1>Data check: {verdict}</h1>"
    );
    sections.iter().for_each(|section| write_section(&mut out, section));
    evolution
        .iter()
        .filter(|evolution| !evolution.compared.is_empty())
        .for_each(|found| write_evolution(&mut out, found));
    out.push_str("</body></html>\n");
    out
}

fn write_section(out: &mut String, section: &Section<'_>) {
    let _ = write!(out, "<h2>{}</h2>", escaped(&section.title));
    let (report, leaks) = match section.found {
        Ok(found) => found,
        Err(unfit) => {
            let _ = write!(out, "<p class=\"s failed\">{}</p>", escaped(unfit));
            return;
        }
    };
    let _ = write!(
        out,
        "<p>{} rows against contract <b>{}</b>, version {}: {} refused, {} set aside, {} corrected earlier.</p>",
        report.rows,
        escaped(&report.contract),
        report.version,
        report.rejected_rows,
        report.quarantined_rows,
        report.corrected_rows
    );
    for leak in leaks {
        let _ = write!(
            out,
            "<p><span class=\"s failed\">Column {} may know the outcome:</span> {}. <b>To do:</b> {}</p>",
            escaped(&leak.column),
            escaped(&leak.what),
            escaped(&leak.remedy)
        );
    }
    out.push_str(
        "<table><thead><tr><th>Verdict</th><th>Expectation</th><th>Expected</th><th>Found</th><th>Rows, counted from \
         0</th></tr></thead><tbody>",
    );
    report.expectations.iter().for_each(|finding| write_finding(out, finding));
    out.push_str("</tbody></table>");
}

fn write_finding(out: &mut String, finding: &Finding) {
    let status = finding.status.name();
    let _ = write!(
        out,
        "<tr><td class=\"s {status}\">{status}</td><td>{}</td><td>{}</td><td>{}</td><td>",
        escaped(&finding.title()),
        escaped(&finding.declared),
        escaped(&finding.sentence())
    );
    for (place, example) in finding.examples.iter().enumerate() {
        let values = serde_json::to_string(&example.values).unwrap_or_default();
        let line = if place > 0 { "<br>" } else { "" };
        let _ = write!(out, "{line}{} <code>{}</code>", example.row, escaped(&values));
    }
    out.push_str("</td></tr>");
}

fn write_evolution(out: &mut String, evolution: &Evolution) {
    let verdict = if evolution.ok() { ("passed", "compatible") } else { ("failed", "not compatible") };
    let _ = write!(
        out,
        "<h2>Change of contract {}</h2><p>{}: <span class=\"s {}\">{}</span> with {}.</p><ul>",
        escaped(&evolution.contract),
        evolution.mode.name(),
        verdict.0,
        verdict.1,
        escaped(&evolution.compared.join(", "))
    );
    for change in &evolution.changes {
        let class = if change.forbidden { "failed" } else { "warned" };
        let _ = write!(
            out,
            "<li><span class=\"s {class}\">{} ({}), {}:</span> column {} {}. <b>To do:</b> {}</li>",
            escaped(&change.version),
            escaped(change.role.as_deref().unwrap_or("registered")),
            change.direction.name(),
            escaped(&change.column),
            escaped(&change.what),
            escaped(&change.remedy)
        );
    }
    for note in &evolution.notes {
        let _ = write!(out, "<li>{}</li>", escaped(note));
    }
    out.push_str("</ul>");
}

/// Text that no browser takes for anything else.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use features::{Observed, Validator};
    use std::sync::Arc;
    use vocabulary::{Column, ColumnKind, Contract};

    #[test]
    fn what_the_data_hold_is_text_and_nothing_else() {
        let evil = "<script>alert('x')</script>";
        let column = Column { pattern: Some("<b>".into()), ..Column::new(evil, ColumnKind::String) };
        let validator = Validator::new(&Contract::new("a&b", vec![column]), &[]).unwrap();
        let array: ArrayRef = Arc::new(StringArray::from(vec![evil]));
        let mut seen = Observed::default();
        validator.observe(&RecordBatch::try_from_iter([(evil, array)]).unwrap(), 0, &mut seen).unwrap();
        let report = validator.report(&seen, None);
        let page = page(&[Section { title: evil.to_owned(), found: Ok((&report, &[])) }], &[]);
        assert!(!page.contains("<script") && !page.contains("<b><"), "{page}");
        assert!(page.contains("a&amp;b") && page.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{page}");
        assert!(page.contains("not all is well") && !page.contains("http"), "{page}");
    }
}
