//! A pipeline as a graph: columns, what is done to them, and what that gives, from left to right.

use super::{Pipeline, StepCard};
use std::collections::HashMap;
use std::fmt::Write;

const ROW: usize = 26;
const CHARACTER: usize = 7;
const GAP: usize = 110;

/// A box of the graph.
struct Node {
    title: String,
    text: String,
    color: &'static str,
}

/// Boxes by layer (columns, derived columns, steps, outputs), and lines between them.
struct Graph {
    layers: [Vec<Node>; 4],
    /// From a box (layer, place) to another.
    lines: Vec<[(usize, usize); 2]>,
}

impl Graph {
    fn of(pipeline: &Pipeline) -> Graph {
        let mut graph = Graph { layers: [const { Vec::new() }; 4], lines: Vec::new() };
        let mut known: HashMap<String, (usize, usize)> = HashMap::new();
        for (name, kind) in pipeline.input_kinds() {
            let node = Node { title: name.to_owned(), text: kind.name().to_owned(), color: "#e8f0fe" };
            known.insert(name.to_owned(), graph.add(0, node));
        }
        for card in pipeline.cards() {
            let StepCard { reads, step, detail, .. } = &card;
            let is_column = *step == "column";
            let title = if is_column { card.dense[0].clone() } else { (*step).to_owned() };
            let color = if is_column { "#fef7e0" } else { "#e6f4ea" };
            let at = graph.add(if is_column { 1 } else { 2 }, Node { title, text: detail.clone(), color });
            graph.lines.extend(reads.iter().filter_map(|name| Some([*known.get(name)?, at])));
            if is_column {
                known.insert(card.dense[0].clone(), at);
                continue;
            }
            for output in card.gives() {
                let end = graph.add(3, Node { title: output, text: String::new(), color: "#f1f3f4" });
                graph.lines.push([at, end]);
            }
        }
        graph
    }

    fn add(&mut self, layer: usize, node: Node) -> (usize, usize) {
        self.layers[layer].push(node);
        (layer, self.layers[layer].len() - 1)
    }
}

impl Pipeline {
    /// The graph in Graphviz's language.
    pub fn to_dot(&self) -> String {
        let graph = Graph::of(self);
        let mut text =
            "digraph pipeline {\n  rankdir=LR;\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n"
                .to_owned();
        for (layer, nodes) in graph.layers.iter().enumerate() {
            for (place, node) in nodes.iter().enumerate() {
                let label = [node.title.as_str(), node.text.as_str()].map(quoted);
                let label = if node.text.is_empty() { label[0].clone() } else { label.join("\\n") };
                let _ = writeln!(text, "  n{layer}_{place} [label=\"{label}\", fillcolor=\"{}\"];", node.color);
            }
        }
        for [(layer, place), (to_layer, to_place)] in &graph.lines {
            let _ = writeln!(text, "  n{layer}_{place} -> n{to_layer}_{to_place};");
        }
        text + "}\n"
    }

    /// The graph as a picture.
    pub fn to_svg(&self) -> String {
        let graph = Graph::of(self);
        let label = |node: &Node| match node.text.is_empty() {
            true => node.title.clone(),
            false => format!("{}  {}", node.title, shortened(&node.text)),
        };
        let wide = |nodes: &Vec<Node>| {
            nodes.iter().map(|node| label(node).chars().count()).max().map(|most| most * CHARACTER + 16)
        };
        let (mut lefts, mut widths, mut x) = ([0; 4], [0; 4], 10);
        for (layer, nodes) in graph.layers.iter().enumerate() {
            lefts[layer] = x;
            if let Some(width) = wide(nodes) {
                widths[layer] = width;
                x += width + GAP;
            }
        }
        let rows = graph.layers.iter().map(Vec::len).max().unwrap_or(0);
        let (width, height) = (x.saturating_sub(GAP) + 10, rows * ROW + 20);
        // A shorter layer is spread over the height of the longest.
        let y = |layer: usize, place: usize| 10 + (2 * place + 1) * rows * ROW / (2 * graph.layers[layer].len().max(1));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        for [(layer, place), (to, at)] in &graph.lines {
            let (x1, y1) = (lefts[*layer] + widths[*layer], y(*layer, *place));
            let (x2, y2) = (lefts[*to], y(*to, *at));
            let middle = (x1 + x2) / 2;
            let _ = writeln!(
                svg,
                "<path d=\"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#9aa0a6\"/>"
            );
        }
        for (layer, nodes) in graph.layers.iter().enumerate() {
            for (place, node) in nodes.iter().enumerate() {
                let (left, top) = (lefts[layer], y(layer, place));
                let _ = writeln!(
                    svg,
                    "<rect x=\"{left}\" y=\"{}\" width=\"{}\" height=\"20\" rx=\"4\" fill=\"{}\" stroke=\"#5f6368\"/>\
                     <text x=\"{}\" y=\"{}\"><title>{}</title>{}</text>",
                    top - 10,
                    widths[layer],
                    node.color,
                    left + 8,
                    top + 4,
                    escaped(&format!("{} {}", node.title, node.text)),
                    escaped(&label(node))
                );
            }
        }
        svg + "</svg>\n"
    }
}

/// As a box has room for.
fn shortened(text: &str) -> String {
    const ROOM: usize = 48;
    match text.chars().count() > ROOM {
        true => text.chars().take(ROOM).chain("…".chars()).collect(),
        false => text.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
