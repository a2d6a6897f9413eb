//! A search as a drawing: the loss of every trial at every rung, and the best so far. Plain SVG that carries its colours
//! for light and dark, so that a page can take it in as it is.

use super::trial::Trial;
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 48.0;

/// Of the losses, this share may lie above the frame's upper edge, where they are drawn on it: one point with a loss of a
/// thousand would press all others into a line.
const CLIPPED: f64 = 0.1;

const STYLE: &str = "\
.search{--ink:#191d21;--soft:#5d656d;--rule:#e2dfd7;--first:#9aa3ab;--paper:#fdfcfa;--middle:#b8500a;--last:#0b6e6e;--failed:#b3261e;\
font:13px Inter,'Segoe UI',Roboto,'Helvetica Neue','Liberation Sans',Arial,sans-serif}\
@media(prefers-color-scheme:dark){.search{--ink:#e9ebe8;--soft:#a3acb0;--rule:#3b4448;--first:#78838a;--paper:#161b1e;--middle:#f0914e;\
--last:#4cc2b6;--failed:#ff8c7d}}\
.search .paper{fill:var(--paper)}.search text{fill:var(--soft)}.search .title{fill:var(--ink);font-weight:600}.search .grid{stroke:var(--rule)}\
.search .best{fill:none;stroke:var(--ink);stroke-width:1.5}.search .failed{stroke:var(--failed);stroke-width:1.5}";

/// Losses over the trials' numbers. Each rung has its colour; the line is the best so far at the highest rung that any
/// trial reached; crosses are trials that failed. `measure` names the loss.
pub fn plot(trials: &[Trial], measure: &str) -> String {
    let rungs = trials.iter().map(|trial| trial.losses.len()).max().unwrap_or(0);
    let frame = Frame::around(trials);
    let measure = escaped(measure);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"search\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{measure} of {} trials\">\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"4\"/>\n",
        trials.len()
    );
    draw(&mut svg, |svg| {
        frame.axes(svg, &measure)?;
        legend(svg, rungs, trials.iter().any(|trial| trial.failure.is_some()))?;
        frame.points(svg, trials, rungs)?;
        frame.best(svg, trials, rungs)
    });
    svg.push_str("</svg>\n");
    svg
}

/// Writing to a string cannot fail.
fn draw(svg: &mut String, parts: impl FnOnce(&mut String) -> std::fmt::Result) {
    if parts(svg).is_err() {
        svg.push_str("<!-- cut off -->");
    }
}

struct Frame {
    /// Trials' numbers run from 0 to this.
    last: f64,
    low: f64,
    high: f64,
}

impl Frame {
    fn around(trials: &[Trial]) -> Frame {
        let last = trials.last().map_or(1.0, |trial| f64::from(trial.number).max(1.0));
        let mut losses: Vec<f64> = trials.iter().flat_map(|trial| trial.losses.iter().copied()).collect();
        losses.sort_by(f64::total_cmp);
        let (Some(low), false) = (losses.first().copied(), losses.is_empty()) else {
            return Frame { last, low: 0.0, high: 1.0 };
        };
        let high = losses[((losses.len() - 1) as f64 * (1.0 - CLIPPED)).ceil() as usize];
        let room = if high > low { (high - low) * 0.06 } else { low.abs().max(1.0) * 0.01 };
        Frame { last, low: low - room, high: high + room }
    }

    fn x(&self, trial: u32) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * f64::from(trial) / self.last
    }

    fn y(&self, loss: f64) -> f64 {
        let share = ((loss - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
    }

    fn axes(&self, svg: &mut String, measure: &str) -> std::fmt::Result {
        writeln!(svg, "<text class=\"title\" x=\"{LEFT}\" y=\"20\">{measure} on the validation rows</text>")?;
        let step = step(self.high - self.low, 5.0);
        let digits = (-log10_floor(step)).max(0) as usize;
        let mut at = (self.low / step).ceil() * step;
        while at <= self.high {
            let y = self.y(at);
            writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                WIDTH - RIGHT
            )?;
            writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{at:.digits$}</text>",
                LEFT - 8.0,
                y + 4.5
            )?;
            at += step;
        }
        let step = step_whole(self.last);
        for trial in (0..=self.last as u32).step_by(step as usize) {
            let (x, y) = (self.x(trial), HEIGHT - BOTTOM + 20.0);
            writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{trial}</text>")?;
        }
        let (x, y) = (LEFT + (WIDTH - LEFT - RIGHT) / 2.0, HEIGHT - 8.0);
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">trial</text>")
    }

    /// A dot for each rung that a trial reached, later rungs above earlier ones; a cross at the upper edge for a failure.
    fn points(&self, svg: &mut String, trials: &[Trial], rungs: usize) -> std::fmt::Result {
        for rung in 0..rungs {
            let (colour, opacity, radius) = look(rung, rungs);
            writeln!(svg, "<g fill=\"{colour}\" fill-opacity=\"{opacity}\">")?;
            for trial in trials {
                let Some(loss) = trial.losses.get(rung) else { continue };
                let (x, y) = (self.x(trial.number), self.y(*loss));
                writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"><title>trial {}, rung {} of {rungs}: {loss:.6}</title></circle>",
                    trial.number,
                    rung + 1
                )?;
            }
            writeln!(svg, "</g>")?;
        }
        for trial in trials {
            let Some(reason) = &trial.failure else { continue };
            let (x, y, reason) = (self.x(trial.number), TOP, escaped(reason));
            let path = format!("M{:.1} {:.1}l7 7m0 -7l-7 7", x - 3.5, y - 3.5);
            writeln!(
                svg,
                "<path class=\"failed\" d=\"{path}\"><title>trial {}: {reason}</title></path>",
                trial.number
            )?;
        }
        Ok(())
    }

    fn best(&self, svg: &mut String, trials: &[Trial], rungs: usize) -> std::fmt::Result {
        let mut path = String::new();
        let mut least = f64::INFINITY;
        for trial in trials {
            let Some(loss) = trial.losses.get(rungs.saturating_sub(1)).filter(|loss| **loss < least) else { continue };
            least = *loss;
            let (x, y) = (self.x(trial.number), self.y(least));
            let begin = if path.is_empty() { format!("M{x:.1} {y:.1}") } else { format!("H{x:.1}V{y:.1}") };
            path.push_str(&begin);
        }
        if path.is_empty() {
            return Ok(());
        }
        writeln!(svg, "<path class=\"best\" d=\"{path}H{:.1}\"/>", self.x(self.last as u32))
    }
}

/// Colour, opacity and radius of a rung's dots.
fn look(rung: usize, rungs: usize) -> (&'static str, &'static str, &'static str) {
    match rung {
        _ if rung + 1 == rungs => ("var(--last)", "1", "4"),
        0 => ("var(--first)", "0.7", "2.5"),
        _ => ("var(--middle)", "0.8", "3"),
    }
}

fn legend(svg: &mut String, rungs: usize, failed: bool) -> std::fmt::Result {
    let mut x = WIDTH - RIGHT;
    let mut put = |text: &str, mark: &dyn Fn(f64) -> String| -> std::fmt::Result {
        x -= 7.0 * text.chars().count() as f64;
        writeln!(svg, "{}<text x=\"{x:.1}\" y=\"20\">{text}</text>", mark(x - 10.0))?;
        x -= 28.0;
        Ok(())
    };
    put("best so far", &|x| format!("<path class=\"best\" d=\"M{:.1} 16H{:.1}\"/>", x - 10.0, x + 4.0))?;
    if failed {
        put("failed", &|x| format!("<path class=\"failed\" d=\"M{:.1} 12l7 7m0 -7l-7 7\"/>", x - 3.5))?;
    }
    for rung in (0..rungs).rev() {
        let (colour, opacity, radius) = look(rung, rungs);
        put(&format!("rung {}", rung + 1), &|x| {
            format!("<circle cx=\"{x:.1}\" cy=\"15.5\" r=\"{radius}\" fill=\"{colour}\" fill-opacity=\"{opacity}\"/>")
        })?;
    }
    Ok(())
}

/// A round number of which some `parts` make `length`.
fn step(length: f64, parts: f64) -> f64 {
    let unit = ten_to(log10_floor(length / parts));
    [1.0, 2.0, 5.0].map(|times| times * unit).into_iter().find(|step| length / step <= parts).unwrap_or(10.0 * unit)
}

fn step_whole(length: f64) -> f64 {
    step(length, 8.0).max(1.0)
}

/// The greatest `e` with 10^e at most `x`, which is above zero.
fn log10_floor(x: f64) -> i32 {
    (-300..300).rev().find(|e| ten_to(*e) <= x * (1.0 + 1e-9)).unwrap_or(-300)
}

/// Read, not computed: exact on every machine.
fn ten_to(e: i32) -> f64 {
    format!("1e{e}").parse().unwrap_or(f64::INFINITY)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(number: u32, losses: &[f64], failure: Option<&str>) -> Trial {
        let values = serde_json::Map::new();
        Trial { number, values, losses: losses.to_vec(), failure: failure.map(str::to_owned), cpu_seconds: 0.0 }
    }

    fn trials() -> Vec<Trial> {
        vec![
            trial(0, &[0.62, 0.55, 0.5], None),
            trial(1, &[0.7], None),
            trial(2, &[], Some("left finite numbers: <alpha>")),
            trial(3, &[0.58, 0.52], None),
            trial(5, &[0.55, 0.5, 0.46], None),
            trial(6, &[900.0], None),
        ]
    }

    /// `GOLDEN=write cargo test -p learning` writes it anew.
    #[test]
    fn the_drawing_is_the_golden_one() {
        let drawn = plot(&trials(), "log loss");
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tune/testdata/search.svg");
        if std::env::var_os("GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &drawn).unwrap();
        }
        assert_eq!(drawn, std::fs::read_to_string(&path).unwrap());
    }

    #[test]
    fn everything_lies_in_the_frame_and_texts_are_escaped() {
        for trials in [trials(), vec![], vec![trial(0, &[0.5], None)], vec![trial(4, &[], Some("x"))]] {
            let drawn = plot(&trials, "a < b");
            assert!(!drawn.contains("NaN") && !drawn.contains("inf\""), "{drawn}");
            assert!(drawn.contains("a &lt; b") && !drawn.contains("<alpha>"));
            for attribute in ["cx=\"", "cy=\""] {
                let limit = if attribute == "cx=\"" { WIDTH } else { HEIGHT };
                for part in drawn.split(attribute).skip(1) {
                    let value: f64 = part.split('"').next().unwrap().parse().unwrap();
                    assert!((0.0..=limit).contains(&value), "{attribute}{value}");
                }
            }
        }
    }

    #[test]
    fn steps_are_round() {
        for (length, parts, expected) in [(1.0, 5.0, 0.2), (0.03, 5.0, 0.01), (7.0, 8.0, 1.0), (59.0, 8.0, 10.0)] {
            let found = step(length, parts);
            assert!((found - expected).abs() < 1e-12, "{length}: {found}");
        }
    }
}
