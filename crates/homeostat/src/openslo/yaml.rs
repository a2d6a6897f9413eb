//! As much of YAML as OpenSLO files use, into JSON values: mappings and lists by indentation, quoted and plain scalars,
//! comments, several documents. Anchors, tags, flow style and block scalars are refused by name.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

/// Levels of indentation at most.
const DEPTH_MAX: usize = 64;

/// A line that says something.
struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

/// The documents of a file.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut lines: Vec<Line> = Vec::new();
    for (place, raw) in text.lines().enumerate() {
        if raw.trim_end() == "---" {
            all.extend(document(std::mem::take(&mut lines))?);
            continue;
        }
        let text = without_comment(raw).trim_end();
        let indent = text.len() - text.trim_start_matches(' ').len();
        if text.trim().is_empty() {
            continue;
        }
        if text[indent..].starts_with('\t') {
            bail!("line {}: a tab indents; YAML wants spaces", place + 1);
        }
        lines.push(Line { number: place + 1, indent, text: &text[indent..] });
    }
    all.extend(document(lines)?);
    Ok(all)
}

fn document(lines: Vec<Line>) -> Result<Option<Value>> {
    if lines.is_empty() {
        return Ok(None);
    }
    let mut place = 0;
    let value = block(&lines, &mut place, lines[0].indent, 0)?;
    match lines.get(place) {
        Some(line) => bail!("line {}: its indentation fits nothing above it", line.number),
        None => Ok(Some(value)),
    }
}

/// A `#` begins a comment at a line's start or after a space, outside quotes.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if (c == '"' || c == '\'') && (before == ' ' || before == ':') => quote = Some(c),
            None if c == '#' && before == ' ' => return &line[..at],
            _ => {}
        }
        before = c;
    }
    line
}

/// The mapping, list or scalar whose lines are indented by `indent`.
fn block(lines: &[Line], place: &mut usize, indent: usize, depth: usize) -> Result<Value> {
    if depth > DEPTH_MAX {
        bail!("line {}: nested more than {DEPTH_MAX} levels deep", lines[*place].number);
    }
    if lines[*place].text.starts_with("- ") || lines[*place].text == "-" {
        return list(lines, place, indent, depth);
    }
    if key_of(lines[*place].text).is_none() {
        let line = &lines[*place];
        *place += 1;
        return scalar(line.text, line.number);
    }
    let mut map = Map::new();
    while let Some(line) = lines.get(*place).filter(|line| line.indent == indent && !line.text.starts_with("- ")) {
        entry(lines, place, line.text, (indent, line.number), depth, &mut map)?;
    }
    Ok(Value::Object(map))
}

fn list(lines: &[Line], place: &mut usize, indent: usize, depth: usize) -> Result<Value> {
    let mut all = Vec::new();
    while let Some(line) = lines.get(*place).filter(|line| line.indent == indent) {
        let Some(rest) = line.text.strip_prefix('-') else { break };
        let text = rest.trim_start();
        let inner = indent + line.text.len() - text.len();
        if text.is_empty() {
            *place += 1;
            let next = lines.get(*place).filter(|next| next.indent > indent);
            all.push(match next {
                Some(next) => block(lines, place, next.indent, depth + 1)?,
                None => Value::Null,
            });
        } else if key_of(text).is_some() {
            // A mapping begins behind the dash; its other keys are indented as far.
            let mut map = Map::new();
            entry(lines, place, text, (inner, line.number), depth + 1, &mut map)?;
            while let Some(next) = lines.get(*place).filter(|next| next.indent == inner) {
                entry(lines, place, next.text, (inner, next.number), depth + 1, &mut map)?;
            }
            all.push(Value::Object(map));
        } else {
            *place += 1;
            all.push(scalar(text, line.number)?);
        }
    }
    Ok(Value::Array(all))
}

/// `key: value`, or `key:` with what is indented below it.
fn entry(
    lines: &[Line],
    place: &mut usize,
    text: &str,
    (indent, number): (usize, usize),
    depth: usize,
    map: &mut Map<String, Value>,
) -> Result<()> {
    let Some((key, value)) = key_of(text) else { bail!("line {number}: \"{text}\" is no \"key: value\"") };
    *place += 1;
    let value = if value.is_empty() {
        // A list may stand as far out as its key.
        let below = lines.get(*place).filter(|next| {
            next.indent > indent || next.indent == indent && (next.text.starts_with("- ") || next.text == "-")
        });
        match below {
            Some(next) => block(lines, place, next.indent, depth + 1)?,
            None => Value::Null,
        }
    } else {
        scalar(value, number)?
    };
    if map.insert(key.clone(), value).is_some() {
        bail!("line {number}: \"{key}\" is there twice");
    }
    Ok(())
}

fn key_of(text: &str) -> Option<(String, &str)> {
    let (key, rest) = match text.strip_prefix('"') {
        Some(rest) => rest.split_once('"')?,
        None => text.split_once(':').map(|(key, _)| (key, &text[key.len()..]))?,
    };
    let value = rest.strip_prefix(':')?;
    (value.is_empty() || value.starts_with(' ')).then(|| (key.trim().to_owned(), value.trim()))
}

fn scalar(text: &str, number: usize) -> Result<Value> {
    for (quote, name) in [('"', "quotation mark"), ('\'', "apostrophe")] {
        if let Some(rest) = text.strip_prefix(quote) {
            let Some(inner) = rest.strip_suffix(quote) else { bail!("line {number}: a {name} is not closed") };
            if inner.contains('\\') && quote == '"' {
                bail!("line {number}: escapes in quotes are not understood; write the text without");
            }
            return Ok(Value::String(inner.to_owned()));
        }
    }
    if let Some(first) = text.chars().next().filter(|c| "&*!|>{[@`%".contains(*c)) {
        bail!(
            "line {number}: \"{first}\" begins something that is not understood here; write plain keys, lists and values"
        );
    }
    Ok(match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" | "~" => Value::Null,
        _ => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => serde_json::json!(number),
            _ => Value::String(text.to_owned()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_slo_files_are_made_of_is_read() {
        let text = "# a comment\nkind: SLO\nmetadata:\n  name: \"a # b\"\nspec:\n  timeWindow:\n  - duration: 30d\n    isRolling: true\n  objectives:\n    - target: 0.99\n      op: lte # less\n    -\n      target: 0.9\n  tags: \n    - x\n    - 'y'\n---\nkind: Service\n";
        let all = documents(text).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0]["metadata"]["name"], "a # b");
        assert_eq!(all[0]["spec"]["timeWindow"], json!([{ "duration": "30d", "isRolling": true }]));
        assert_eq!(all[0]["spec"]["objectives"][0], json!({ "target": 0.99, "op": "lte" }));
        assert_eq!(all[0]["spec"]["objectives"][1]["target"], 0.9);
        assert_eq!(all[0]["spec"]["tags"], json!(["x", "y"]));
    }

    #[test]
    fn the_rest_is_refused_with_its_line() {
        for (text, line) in [
            ("a: &b 1", "line 1"),
            ("a:\n  b: |\n    text", "line 2"),
            ("a: 1\na: 2", "line 2"),
            ("a:\n    b: 1\n  c: 2", "line 3"),
            ("\ta: 1", "line 1"),
            ("a: \"b", "line 1"),
            ("a: {}", "line 1"),
        ] {
            let error = documents(text).unwrap_err().to_string();
            assert!(error.contains(line), "{text}: {error}");
        }
        let deep: String = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
        assert!(documents(&deep).unwrap_err().to_string().contains("levels deep"));
    }
}
